"""Replaces transformers' TensorFlow models inside Keras models, since version 5 no longer has them.

A stand-in is a layer without weights of its own. The stored weights of the model it replaces are paired by
name with our graph. Runs in the loading process.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from model_bundle.builders.keras.load.stored_weights import LayerArrays
from model_bundle.errors import SourceError

# What the names of classes have after ``TF``, with the ``model_type`` of their configuration.
KINDS = {
    "Bert": "bert",
    "DistilBert": "distilbert",
    "Roberta": "roberta",
    "XLMRoberta": "xlm-roberta",
    "Camembert": "camembert",
    "Electra": "electra",
    "Albert": "albert",
    "MPNet": "mpnet",
}
_MODELS = tuple(f"TF{name}Model" for name in KINDS)
_CLASSIFIERS = tuple(f"TF{name}ForSequenceClassification" for name in KINDS)
# The layer inside such a model, which people also put into their own; Keras registered it as ``Custom>…``.
MAIN_LAYERS = tuple(f"TF{name}MainLayer" for name in KINDS)
CUSTOM = "Custom>"
STAND_INS = (*_MODELS, *_CLASSIFIERS, *MAIN_LAYERS)
# Paths of weights in .keras files and checkpoints: the prefix of the model, and the path within it.
_MAIN = r"(?:layers/tf[a-z_]*_main_layer|(?:bert|distilbert|roberta|electra|albert|mpnet))/"
_INSIDE = re.compile(rf"^(?P<above>(?:.*?/)?){_MAIN}(?P<rest>.+)$")
# A list of layers: numbered by their class in .keras files, by their place in checkpoints.
_NUMBERED = re.compile(
    r"(?<=/)(layer|albert_layer_groups|albert_layers)/(?:tf[a-z_]+?(?:_(?P<zip>\d+))?|(?P<list>\d+))/"
)
_PARTS = (
    ("attention/self_attention/", "attention/self/"),
    ("attention/dense_output/", "attention/output/"),
    ("/bert_output/", "/output/"),
    ("/out/", "/output/"),
)
_TABLES = {
    "embeddings/vars/0": "embeddings/word_embeddings/weight",
    "embeddings/vars/1": "embeddings/token_type_embeddings/embeddings",
    "embeddings/vars/2": "embeddings/position_embeddings/embeddings",
    "embeddings/weight": "embeddings/word_embeddings/weight",
    "embeddings/token_type_embeddings": "embeddings/token_type_embeddings/embeddings",
    # Both tables were created under this name; the second one kept it.
    "embeddings/embeddings": "embeddings/position_embeddings/embeddings",
    "embeddings/position_embeddings": "embeddings/position_embeddings/embeddings",
    "encoder/vars/0": "encoder/relative_attention_bias/embeddings",
}
# Of models without types of tokens.
_POSITIONS_SECOND = {"embeddings/vars/1": "embeddings/position_embeddings/embeddings"}
# What is above the encoder: a layer for classes, or two of them in one.
_HEADS = (
    (re.compile(r"^layers/dense/"), "classifier/"),
    (re.compile(r"^layers/tf[a-z_]*_classification_head/"), "classifier/"),
)


def stand_ins() -> dict[str, Any]:
    """Returns the stand-in classes by the names they replace, for the Keras of this process."""
    from model_bundle.builders.keras.load.bert_layers import Classifier, MainLayer, StandIn

    made = {
        name: type(name, (base,), {"replaces": name, "kind": kind})
        for base, names in ((StandIn, _MODELS), (Classifier, _CLASSIFIERS), (MainLayer, MAIN_LAYERS))
        for name, kind in zip(names, KINDS.values(), strict=True)
    }
    return made | {f"{CUSTOM}{name}": made[name] for name in MAIN_LAYERS}


def install_stand_ins() -> None:
    """Sets the stand-ins in ``transformers``, from where the user's code imports them."""
    import transformers

    for name, stand_in in stand_ins().items():
        setattr(transformers, name, stand_in)


def assign_stand_in_layers(
    model: Any, stored: LayerArrays, where: str
) -> tuple[LayerArrays, tuple[str, ...]]:
    """Assigns stored weights to the model's stand-ins; returns the remaining weights, and notes.

    Raises:
        WeightsMismatchError: the weights do not match the configuration of a stand-in.
        SourceError: the file has more or fewer such models.
    """
    standing = [layer for layer in model.layers if hasattr(layer, "assign_stored")]
    if not standing:
        return stored, ()
    found = [layer for layer, arrays in stored.items() if any("/embeddings/" in name for name, _ in arrays)]
    _check_number(standing, found, where)
    notes: list[str] = []
    for layer, name in zip(standing, found, strict=True):
        notes += layer.assign_stored(dict(stored[name]), where)
    return {name: arrays for name, arrays in stored.items() if name not in found}, tuple(notes)


def assign_stand_in_values(
    model: Any, values: Mapping[str, np.ndarray], where: str
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Does the same for weights by path, as in .keras files and checkpoints."""
    standing = [layer for layer in model.layers if hasattr(layer, "assign_stored")]
    if not standing:
        return dict(values), ()
    main = sorted({type(layer).replaces for layer in standing} & set(MAIN_LAYERS))
    if main:
        raise SourceError(
            f"{where} stores the weights of {', '.join(main)} by path, not by name; supported is HDF5 as "
            "model.save('m.h5') and save_weights('w.h5') wrote it. Build from a SavedModel of the same model."
        )
    prefixes = list(dict.fromkeys(match["above"] for name in values if (match := _INSIDE.match(name))))
    _check_number(standing, prefixes, where)
    notes: list[str] = []
    rest = dict(values)
    for layer, prefix in zip(standing, prefixes, strict=True):
        inside = {name: rest.pop(name) for name in list(rest) if name.startswith(prefix)}
        places = {name.removeprefix(prefix): array for name, array in inside.items()}
        # Words, types and positions; or words and positions.
        has_types = not any(name.endswith("embeddings/vars/1") for name in places) or any(
            name.endswith("embeddings/vars/2") for name in places
        )
        named = {transformers_name(name, has_types=has_types): array for name, array in places.items()}
        notes += layer.assign_stored(named, where)
    return rest, tuple(notes)


def transformers_name(place: str, *, has_types: bool = True) -> str:
    """Converts the path of a weight to transformers' name; ``has_types``: whether tokens have types.

    >>> transformers_name("layers/tf_bert_main_layer/encoder/layer/tf_bert_layer_1/bert_output/dense/vars/0")
    'bert/encoder/layer_._1/output/dense/kernel'
    >>> transformers_name("layers/tf_roberta_classification_head/out_proj/vars/1")
    'classifier/out_proj/bias'
    """
    name = re.sub(f"^{_MAIN}", "", place)
    tables = _TABLES if has_types else _TABLES | _POSITIONS_SECOND
    if name in tables:
        return f"bert/{tables[name]}"
    is_head = name == place
    name = _NUMBERED.sub(lambda found: f"{found[1]}_._{found['zip'] or found['list'] or 0}/", name)
    for old, new in _PARTS:
        name = name.replace(old, new)
    last = ("gamma", "beta") if re.search(r"(LayerNorm|layer_norm)/vars", name) else ("kernel", "bias")
    name = re.sub(r"/vars/([01])$", lambda found: f"/{last[int(found[1])]}", name)
    if not is_head:
        return f"bert/{name}"
    for pattern, head in _HEADS:
        name = pattern.sub(head, name)
    return name.removeprefix("layers/")


def _check_number(standing: list[Any], found: list[str], where: str) -> None:
    if len(standing) != len(found):
        raise SourceError(
            f"{where} contains the weights of {len(found)} models of transformers, the architecture has "
            f"{len(standing)}. Check that they belong together."
        )
