"""The tiny models of ``tests/data/families``, and the other formats that people have saved such models in."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from tests.conftest import DATA_DIR

ROOT = DATA_DIR / "families"
ENCODERS = (
    *("mpnet", "electra", "electra_wide", "albert", "albert_groups"),
    *("xlm_roberta", "camembert", "bert_unigram"),
)
CLASSIFIERS = tuple(
    f"{family}_{head}" for family in ("mpnet", "electra", "albert") for head in ("mood", "entities")
)


def expected(model: str) -> dict[str, np.ndarray]:
    """What PyTorch gave; see ``tests/goldens/record_families.py``."""
    with np.load(ROOT / model / "expected.npz") as stored:
        return {name: stored[name] for name in stored.files}


def texts_of(golden: Mapping[str, np.ndarray]) -> list[str]:
    """The texts of a golden file."""
    return list(json.loads(golden["texts"].tobytes()))


def make_encoder(source: Any) -> Any:
    """Builds the graph of a source."""
    from model_bundle.runtime.tensorflow_setup import import_tensorflow

    import_tensorflow()
    return source.family.graph()(source.config, source.weights, "test")


def write_h5(target: Path, model: str) -> Path:
    """``tf_model.h5`` with the names of transformers' TensorFlow models."""
    import h5py

    _copy_without_weights(target, model)
    with h5py.File(target / "tf_model.h5", "w") as file:
        for name, value in tensorflow_weights(model).items():
            file[name] = value
    return target


def write_google(target: Path, model: str) -> Path:
    """A checkpoint with the names of Google's own code, and its configuration."""
    from model_bundle.runtime.tensorflow_setup import import_tensorflow

    tf = import_tensorflow()
    _copy_without_weights(target, model)
    weights = google_weights(model)
    if "albert" in model:
        config = json.loads((target / "config.json").read_text())
        (target / "config.json").unlink()
        kept = {key: value for key, value in config.items() if key in _GOOGLE_SETTINGS}
        (target / "albert_config.json").write_text(json.dumps(kept | _GOOGLE_EXTRA))
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        variables = [tf.compat.v1.Variable(value, name=name) for name, value in weights.items()]
        session.run(tf.compat.v1.variables_initializer(variables))
        saver = tf.compat.v1.train.Saver(variables)
        saver.save(session, str(target / "model.ckpt"), write_meta_graph=False, write_state=False)
    return target


# What the albert_config.json of Google's releases states, beside sizes; epsilon is fixed in the code, and
# stated here because the golden states have another.
_GOOGLE_SETTINGS = (
    *("hidden_size", "embedding_size", "num_hidden_layers", "num_hidden_groups", "inner_group_num"),
    *("num_attention_heads", "intermediate_size", "max_position_embeddings", "type_vocab_size", "vocab_size"),
    *("layer_norm_eps", "hidden_dropout_prob", "attention_probs_dropout_prob", "initializer_range"),
)
_GOOGLE_EXTRA = {
    "hidden_act": "gelu",
    "net_structure_type": 0,
    "gap_size": 0,
    "num_memory_blocks": 0,
    "down_scale_factor": 1,
}


def _copy_without_weights(target: Path, model: str) -> None:
    target.mkdir(parents=True)
    for path in (ROOT / model).iterdir():
        if path.name not in ("expected.npz", "model.safetensors"):
            shutil.copy(path, target / path.name)


def stored_weights(model: str) -> dict[str, np.ndarray]:
    """The weights as PyTorch named them."""
    return load_file(ROOT / model / "model.safetensors")


def tensorflow_weights(model: str) -> dict[str, np.ndarray]:
    """The weights as ``tf_model.h5`` of transformers named and laid them out: layer, model, name."""
    layers = {name: name.split("/")[0] for name in _tensorflow_weights(model)}
    return {
        f"{layers[name]}/tf_{layers[name]}_model/{name}:0": value
        for name, value in _tensorflow_weights(model).items()
    }


def google_weights(model: str) -> dict[str, np.ndarray]:
    """The weights as Google's own code named and laid them out."""
    return {_google_name(name): value for name, value in _tensorflow_weights(model).items()}


def _tensorflow_weights(model: str) -> dict[str, np.ndarray]:
    made: dict[str, np.ndarray] = {}
    for name, value in stored_weights(model).items():
        path = re.sub(
            r"/(layer|albert_layer_groups|albert_layers)/(\d+)", r"/\1_._\2", name.replace(".", "/")
        )
        part, _, last = path.rpartition("/")
        if re.search(r"(LayerNorm|layer_norm)$", part):
            last = {"weight": "gamma", "bias": "beta"}[last]
        elif part.endswith(("position_embeddings", "token_type_embeddings", "relative_attention_bias")):
            last = "embeddings"
        elif last == "weight" and not part.endswith("word_embeddings"):
            last, value = "kernel", value.T
        made[f"{part}/{last}" if part else last] = np.ascontiguousarray(value)
    return made


def _google_name(name: str) -> str:
    """The same weight in a checkpoint of Google's: of ELECTRA's or ALBERT's code."""
    name = re.sub(r"(_embeddings)/(weight|embeddings)$", r"\1", name)
    name = name.replace("layer_._", "layer_")
    if not name.startswith("albert/"):
        return name
    name = re.sub(
        r"albert_layer_groups_\._(\d+)/albert_layers_\._(\d+)", r"transformer/group_\1/inner_group_\2", name
    )
    for ours, theirs in (
        ("albert/", "bert/"),
        ("pooler/", "pooler/dense/"),
        ("attention/LayerNorm", "LayerNorm"),
        ("full_layer_layer_norm", "LayerNorm_1"),
        ("ffn_output", "ffn_1/intermediate/output/dense"),
        ("/ffn/", "/ffn_1/intermediate/dense/"),
        ("attention/dense", "attention_1/output/dense"),
    ):
        name = name.replace(ours, theirs, 1)
    return re.sub(r"attention/(query|key|value)/", r"attention_1/self/\1/", name)
