"""Writes the tiny BERT of the tests in the other formats that people have saved BERTs in."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from tests.conftest import DATA_DIR

TINY_BERT = DATA_DIR / "tiny_bert"
_TOKENIZER = ("tokenizer.json", "tokenizer_config.json")


def stored_weights(directory: Path = TINY_BERT) -> dict[str, np.ndarray]:
    """Returns the weights as PyTorch named them."""
    return load_file(directory / "model.safetensors")


def copy_source(target: Path, source: Path = TINY_BERT, *, without: tuple[str, ...] = ()) -> Path:
    """Copies a model's folder, less the goldens and what the test replaces."""
    target.mkdir(parents=True, exist_ok=True)
    for path in source.iterdir():
        if path.name not in ("expected.npz", "vocab.txt", *without):
            shutil.copy(path, target / path.name)
    return target


def edit_json(path: Path, **changes: Any) -> None:
    """Changes keys of a JSON object; None removes one."""
    content = json.loads(path.read_text()) if path.exists() else {}
    content |= changes
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def write_weights(target: Path, weights: dict[str, np.ndarray]) -> Path:
    """Puts other weights into a copy of the tiny BERT."""
    copy_source(target, without=("model.safetensors",))
    save_file(weights, target / "model.safetensors")
    return target


def write_shards(target: Path) -> Path:
    """Three safetensors files and their index."""
    copy_source(target, without=("model.safetensors",))
    weights = stored_weights()
    names = sorted(weights)
    index: dict[str, str] = {}
    for number in range(3):
        file = f"model-{number + 1:05}-of-00003.safetensors"
        part = {name: weights[name] for name in names[number::3]}
        save_file(part, target / file)
        index |= dict.fromkeys(part, file)
    content = {"metadata": {"total_size": sum(w.nbytes for w in weights.values())}, "weight_map": index}
    (target / "model.safetensors.index.json").write_text(json.dumps(content))
    return target


def tensorflow_weights() -> dict[str, np.ndarray]:
    """The weights as transformers' TensorFlow models named and laid them out."""
    made = {}
    for name, value in stored_weights().items():
        path = re.sub(r"layer/(\d+)", r"layer_._\1", name.replace(".", "/"))
        made[f"{_tensorflow_last(path)}:0"] = value.T if _is_kernel(name) else value
    return made


def write_tensorflow_safetensors(target: Path) -> Path:
    """TensorFlow names in a safetensors file."""
    copy_source(target, without=("model.safetensors",))
    weights = {name: np.ascontiguousarray(value) for name, value in tensorflow_weights().items()}
    save_file(weights, target / "model.safetensors", metadata={"format": "tf"})
    return target


def write_h5(target: Path) -> Path:
    """``tf_model.h5`` as Keras wrote it: layer, model, name. The head repeats the table it shares."""
    import h5py

    copy_source(target, without=("model.safetensors",))
    with h5py.File(target / "tf_model.h5", "w") as file:
        for name, value in tensorflow_weights().items():
            layer = {"bert": "bert", "cls": "mlm___cls"}[name.split("/")[0]]
            file[f"{layer}/tf_bert_for_pre_training/{name}"] = value
        table = "tf_bert_for_pre_training/bert/embeddings/word_embeddings/weight:0"
        file[f"mlm___cls/{table}"] = file[f"bert/{table}"][()]
        file.attrs["backend"] = "tensorflow"
    return target


def write_h5_shards(target: Path) -> Path:
    """``tf_model-0000N-of-00003.h5`` and their index, whose names begin with the model's."""
    import h5py

    write_h5(target)
    index: dict[str, str] = {}
    with h5py.File(target / "tf_model.h5") as file:
        weights: dict[str, np.ndarray] = {}
        file.visititems(
            lambda name, item: weights.update({name: item[()]}) if hasattr(item, "dtype") else None
        )
    (target / "tf_model.h5").unlink()
    for number, name in enumerate(sorted(weights)):
        shard = f"tf_model-{number % 3 + 1:05}-of-00003.h5"
        with h5py.File(target / shard, "a") as file:
            # Of layer, model, name only the name remains; the head's table is another variable.
            stored = name if name.startswith("mlm") else name.split("/", 2)[2]
            file[stored] = weights[name]
        index[f"tf_bert_for_pre_training/{stored}"] = shard
    (target / "tf_model.h5.index.json").write_text(json.dumps({"weight_map": index}))
    return target


def write_main_layer(path: Path, name: str, source: Path, package: str = "Custom>") -> None:
    """An HDF5 file of a Keras model around transformers' main layer, which has the name ``encoder_part``."""
    import h5py

    settings = json.loads((source / "config.json").read_text())
    model = settings["model_type"]
    start = {"batch_input_shape": [None, None], "dtype": "int32", "name": "input_ids"}
    inner = {"name": "encoder_part", "trainable": True, "dtype": "float32", "config": settings}
    calls = [[["input_ids", 0, 0, {"attention_mask": ["attention_mask", 0, 0]}]]]
    layers: list[dict[str, Any]] = [
        {"class_name": "InputLayer", "config": start | {"name": key}, "name": key, "inbound_nodes": []}
        for key in ("input_ids", "attention_mask")
    ]
    layers.append(
        {"class_name": package + name, "config": inner, "name": "encoder_part", "inbound_nodes": calls}
    )
    config = {"name": "m", "layers": layers, "output_layers": [["encoder_part", 0, 0]]}
    config["input_layers"] = [[key, 0, 0] for key in ("input_ids", "attention_mask")]
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps({"class_name": "Functional", "config": config})
        file.attrs["keras_version"] = "2.15.0"
        weights = file.create_group("model_weights/encoder_part")
        file["model_weights"].attrs["layer_names"] = [b"encoder_part"]
        stored = {}
        for key, value in stored_weights(source).items():
            if key.startswith(("lm_head", "vocab_", "cls.")):
                continue
            parts = re.sub(r"layer/(\d+)", r"layer_._\1", key.removeprefix(f"{model}.").replace(".", "/"))
            last = _tensorflow_last(re.sub(r"\w*layer_norm/", r"\g<0>LayerNorm/", parts))
            last = last.replace("layer_norm/LayerNorm", "layer_norm")
            is_kernel = value.ndim == 2 and "embeddings" not in key
            stored[f"encoder_part/{last}:0"] = value.T if is_kernel else value
        for key, value in stored.items():
            weights[key] = value
        weights.attrs["weight_names"] = [key.encode() for key in stored]


def write_google(target: Path, scope: str = "") -> Path:
    """A checkpoint of TensorFlow 1 with optimizer slots, as training at Google left it, and ``vocab.txt``.

    The exact GELU is that of the golden states; Google's own configurations say ``gelu``.
    """
    from model_bundle.runtime.tensorflow_setup import import_tensorflow

    tf = import_tensorflow()
    target.mkdir(parents=True)
    config = json.loads((TINY_BERT / "config.json").read_text())
    config["hidden_act"] = "gelu_python"
    wanted = ("hidden_size", "intermediate_size", "num_attention_heads", "num_hidden_layers", "hidden_act")
    sizes = ("max_position_embeddings", "type_vocab_size", "vocab_size", "layer_norm_eps")
    (target / "bert_config.json").write_text(json.dumps({key: config[key] for key in (*wanted, *sizes)}))
    shutil.copy(TINY_BERT / "vocab.txt", target / "vocab.txt")
    weights: dict[str, np.ndarray] = {}
    for name, value in tensorflow_weights().items():
        path = scope + name.removesuffix(":0").replace("layer_._", "layer_")
        path = re.sub(r"(_embeddings)/(weight|embeddings)$", r"\1", path)
        weights |= {path: value, f"{path}/adam_m": value, f"{path}/adam_v": value}
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        variables = [tf.compat.v1.Variable(value, name=name) for name, value in weights.items()]
        step = tf.compat.v1.Variable(7, name="global_step", dtype=tf.int64)
        session.run(tf.compat.v1.variables_initializer([*variables, step]))
        saver = tf.compat.v1.train.Saver([*variables, step])
        saver.save(session, str(target / "bert_model.ckpt"), write_meta_graph=False, write_state=False)
    return target


def _is_kernel(name: str) -> bool:
    """Dense kernels: every matrix but the tables."""
    return name.endswith(".weight") and stored_weights()[name].ndim == 2 and "embeddings" not in name


def _tensorflow_last(path: str) -> str:
    """The last word of a name: kernel, gamma and beta for weight and bias where they are of that kind."""
    part, _, last = path.rpartition("/")
    if part.endswith("LayerNorm"):
        return f"{part}/{ {'weight': 'gamma', 'bias': 'beta'}[last] }"
    if part.endswith(("position_embeddings", "token_type_embeddings")):
        return f"{part}/embeddings"
    if last == "weight" and not part.endswith("word_embeddings"):
        return f"{part}/kernel"
    return path
