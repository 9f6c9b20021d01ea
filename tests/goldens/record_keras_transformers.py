"""Records Keras files that hold transformers' TensorFlow models, and what they gave.

Run it where TensorFlow 2.15 and transformers 4.38 are installed (Python 3.11, without tf_keras, which would
take their place); it writes ``tests/data/keras_transformers.tar.xz``::

    python tests/goldens/record_keras_transformers.py tests/data

For each family, in folders of its name: ``encoder.h5``, ``encoder.keras``, and ``encoder.json`` with
``encoder.weights.h5``: the class TF…Model, a mean over the real tokens and a dense layer; ``classifier.h5``
and so on: TF…ForSequenceClassification and a softmax; ``main.h5``: the layer inside the model, as people put
it into their own. ``expected.npz``: ``input_ids`` and ``attention_mask`` int32[texts, tokens], and what each
model gave. ``saved_model``, of some: the whole graph. Weights are random and large.
"""

from __future__ import annotations

import sys
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import tensorflow as tf
import transformers

RANDOM = np.random.default_rng(20261130)
VOCABULARY, DIM, TOKENS, LABELS = 60, 16, 12, 3
_BERT = {
    "vocab_size": VOCABULARY,
    "hidden_size": DIM,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 20,
    "num_labels": LABELS,
}
_ROBERTA = _BERT | {"type_vocab_size": 1, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
# Family, its configuration, and the id of padding.
FAMILIES: dict[str, tuple[Any, int]] = {
    "DistilBert": (
        transformers.DistilBertConfig(
            vocab_size=VOCABULARY,
            dim=DIM,
            hidden_dim=24,
            n_layers=2,
            n_heads=4,
            max_position_embeddings=20,
            num_labels=LABELS,
        ),
        0,
    ),
    "Roberta": (transformers.RobertaConfig(**_ROBERTA, layer_norm_eps=0.01), 1),
    "XLMRoberta": (transformers.XLMRobertaConfig(**_ROBERTA, hidden_act="relu"), 1),
    "Camembert": (transformers.CamembertConfig(**_ROBERTA), 1),
    "Electra": (transformers.ElectraConfig(**_BERT, embedding_size=8), 0),
    "Albert": (
        transformers.AlbertConfig(**(_BERT | {"embedding_size": 8, "num_hidden_layers": 3})),
        0,
    ),
    "MPNet": (transformers.MPNetConfig(**_BERT, pad_token_id=1), 1),
}
SAVED_MODELS = ("DistilBert", "MPNet")


def main(root: Path) -> None:
    """Writes the archive."""
    with TemporaryDirectory() as work:
        for family, (config, pad_id) in FAMILIES.items():
            tf.keras.backend.clear_session()
            record(family, config, pad_id, Path(work) / family.lower())
        with tarfile.open(root / "keras_transformers.tar.xz", "w:xz", preset=9) as archive:
            for path in sorted(Path(work).rglob("*")):
                archive.add(path, path.relative_to(work), recursive=False, filter=anonymous)


def anonymous(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """Leaves out who made a file, and when."""
    entry.uid = entry.gid = entry.mtime = 0
    entry.uname = entry.gname = ""
    return entry


def record(family: str, config: Any, pad_id: int, folder: Path) -> None:
    """Records the models of one family."""
    folder.mkdir()
    ids, mask = examples(pad_id)
    given = {"input_ids": ids, "attention_mask": mask}
    encoder = getattr(transformers, f"TF{family}Model")(config)
    classifier = getattr(transformers, f"TF{family}ForSequenceClassification")(config)
    for model in (encoder, classifier):
        model(given)
        randomize(model)
    main_layer = encoder.layers[0]
    models = {
        "encoder": keras_model(lambda *a: pooled(encoder(a[0], attention_mask=a[1]).last_hidden_state, a[1])),
        "classifier": keras_model(
            lambda *a: tf.keras.layers.Softmax()(classifier(a[0], attention_mask=a[1]).logits)
        ),
        "main": keras_model(lambda *a: pooled(main_layer(a[0], attention_mask=a[1])[0], a[1])),
    }
    arrays = dict(given)
    for name, model in models.items():
        arrays[name] = model.predict(given, verbose=0)
        model.save(folder / f"{name}.h5")
        if name == "main":
            continue
        model.save(folder / f"{name}.keras")
        model.save_weights(folder / f"{name}.weights.h5")
        (folder / f"{name}.json").write_text(model.to_json())
    if family in SAVED_MODELS:
        models["classifier"].save(folder / "saved_model", save_format="tf")
    np.savez_compressed(folder / "expected.npz", **arrays)


def examples(pad_id: int) -> tuple[np.ndarray, np.ndarray]:
    """Ids and mask of a few texts of different lengths."""
    lengths = np.array([TOKENS, 3, 7, 2])
    mask = (np.arange(TOKENS) < lengths[:, np.newaxis]).astype(np.int32)
    ids = RANDOM.integers(5, VOCABULARY, mask.shape).astype(np.int32)
    return np.where(mask > 0, ids, pad_id).astype(np.int32), mask


def randomize(model: Any) -> None:
    """Assigns random values to every weight, large enough that each shows."""
    for weight in model.weights:
        scale = weight.name.endswith("gamma:0")
        weight.assign(RANDOM.normal(1.0 if scale else 0.0, 0.2, weight.shape))


def keras_model(build: Any) -> Any:
    """A functional model of ids and mask."""
    inputs = [tf.keras.Input([TOKENS], dtype="int32", name=name) for name in ("input_ids", "attention_mask")]
    return tf.keras.Model(inputs, build(*inputs))


def pooled(states: Any, mask: Any) -> Any:
    """A layer above: the mean of the first three tokens, and a dense layer."""
    del mask
    first = tf.keras.layers.Cropping1D((0, TOKENS - 3))(states)
    mean = tf.keras.layers.GlobalAveragePooling1D()(first)
    return tf.keras.layers.Dense(5, activation="tanh", bias_initializer="random_normal")(mean)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
