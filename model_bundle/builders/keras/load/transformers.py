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
_INSIDE = re.compile(r"^(?P<above>.*?)(?:layers/tf_bert_main_layer|(?<=/)bert)/(?P<rest>.+)$")


_LAYER = re.compile(r"^encoder/layer/(?:tf_bert_layer(?:_(?P<zip>\d+))?|(?P<list>\d+))/")
_PARTS = (
    ("attention/self_attention/", "attention/self/"),
    ("attention/dense_output/", "attention/output/"),
    ("bert_output/", "output/"),
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
}


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
        named = {transformers_name(name.removeprefix(prefix)): array for name, array in inside.items()}
        notes += layer.assign_stored(named, where)
    return rest, tuple(notes)


def transformers_name(place: str) -> str:
    """Converts the path of a weight to transformers' name.

    >>> transformers_name("layers/tf_bert_main_layer/encoder/layer/tf_bert_layer_1/bert_output/dense/vars/0")
    'bert/encoder/layer_._1/output/dense/kernel'
    """
    name = re.sub(r"^(layers/tf_bert_main_layer|bert)/", "", place)
    if name in _TABLES:
        return f"bert/{_TABLES[name]}"
    is_head = name == place
    match = _LAYER.match(name)
    if match:
        name = f"encoder/layer_._{match['zip'] or match['list'] or 0}/{name[match.end() :]}"
    for old, new in _PARTS:
        name = name.replace(old, new)
    last = ("gamma", "beta") if "LayerNorm/" in name else ("kernel", "bias")
    name = re.sub(r"/vars/([01])$", lambda found: f"/{last[int(found[1])]}", name)
    return name.removeprefix("layers/") if is_head else f"bert/{name}"


def _check_number(standing: list[Any], found: list[str], where: str) -> None:
    if len(standing) != len(found):
        raise SourceError(
            f"{where} contains the weights of {len(found)} models of transformers, the architecture has "
            f"{len(standing)}. Check that they belong together."
        )
