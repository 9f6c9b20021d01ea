"""The exported SavedModel, called in the ways google/elmo was called."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from model_bundle.builders.elmo.bilm_files import read_options, read_weights
from model_bundle.builders.graphs.elmo import Elmo
from model_bundle.builders.graphs.elmo_signatures import signatures
from tests.conftest import shared_path

# tensorflow_hub and tf_keras still use what setuptools, NumPy and TensorFlow announce the end of.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:pkg_resources is deprecated:UserWarning"),
]
TEXTS = ["the cat is on the mat", "", "dogs  are in the fog tonight  "]
OUTPUTS = {"word_emb", "lstm_outputs1", "lstm_outputs2", "elmo", "default", "sequence_len"}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = shared_path("fixtures/elmo_allennlp")
    elmo = Elmo(read_options(folder / "options.json"), read_weights(folder / "lm_weights.hdf5"), str(folder))
    path = tmp_path_factory.mktemp("elmo") / "saved_model"
    tf.saved_model.save(elmo, str(path), signatures=signatures(elmo))
    return path


@pytest.fixture(scope="module")
def tokens() -> dict[str, tf.Tensor]:
    rows = [text.split() for text in TEXTS]
    padded = [row + [""] * (6 - len(row)) for row in rows]
    return {"tokens": tf.constant(padded), "sequence_len": tf.constant([len(row) for row in rows], tf.int32)}


@pytest.fixture(scope="module")
def expected() -> dict[str, np.ndarray]:
    """The golden vectors of the first text, which is the first edge sentence."""
    folder = shared_path("fixtures/elmo_golden")
    assert json.loads((folder / "inputs.json").read_text("utf-8"))["edge_sentences"][0] == TEXTS[0]
    with np.load(folder / "stateless_allennlp.npz") as stored:
        names = ("lstm_outputs1", "lstm_outputs2", "elmo", "default")
        vectors = {name: stored[f"edge00.bos.{name}"] for name in names}
        return vectors | {"word_emb": stored["edge00.word_emb"]}


def check(outputs: Any, expected: dict[str, np.ndarray], tolerance: float = 5e-6) -> None:
    assert set(outputs) == OUTPUTS
    for name, vectors in expected.items():
        assert outputs[name].dtype == tf.float32
        assert np.abs(outputs[name][0].numpy() - vectors).max() <= tolerance, name
    assert outputs["sequence_len"].numpy().tolist() == [6, 0, 6]
    assert not np.any(outputs["default"][1])


def test_plain_tensorflow(saved: Path, tokens: dict[str, tf.Tensor], expected: dict[str, np.ndarray]) -> None:
    loaded = tf.saved_model.load(str(saved))
    check(loaded.signatures["default"](tf.constant(TEXTS)), expected)
    check(loaded.signatures["tokens"](**tokens), expected)


def test_tensorflow_hub(saved: Path, tokens: dict[str, tf.Tensor], expected: dict[str, np.ndarray]) -> None:
    import tensorflow_hub as hub

    module = hub.load(str(saved))
    check(module.signatures["default"](strings=tf.constant(TEXTS)), expected)
    check(module.signatures["tokens"](**tokens), expected)


def test_keras_layer(saved: Path, tokens: dict[str, tf.Tensor], expected: dict[str, np.ndarray]) -> None:
    import tensorflow_hub as hub
    import tf_keras

    layer = hub.KerasLayer(str(saved), signature="tokens", output_key="elmo")
    assert np.abs(layer(tokens)[0].numpy() - expected["elmo"]).max() <= 5e-6
    inputs = {
        "tokens": tf_keras.Input([None], dtype=tf.string, name="tokens"),
        "sequence_len": tf_keras.Input([], dtype=tf.int32, name="sequence_len"),
    }
    model = tf_keras.Model(inputs, layer(inputs))
    assert np.abs(model(tokens)[0].numpy() - expected["elmo"]).max() <= 5e-6


def test_bfloat16_twins_are_close_and_different(saved: Path, expected: dict[str, np.ndarray]) -> None:
    found = tf.saved_model.load(str(saved)).signatures["default_bfloat16"](tf.constant(TEXTS))
    check(found, expected, tolerance=0.03)
    assert np.abs(found["elmo"][0].numpy() - expected["elmo"]).max() > 1e-4


def test_state_is_carried_only_when_it_is_fed(saved: Path, tokens: dict[str, tf.Tensor]) -> None:
    loaded = tf.saved_model.load(str(saved))
    cells, states = tf.zeros([2, 2, 3, 64]), tf.zeros([2, 2, 3, 16])
    first = loaded.signatures["tokens_stateful"](**tokens, cells=cells, states=states)
    plain = loaded.signatures["tokens"](**tokens)
    np.testing.assert_allclose(first["elmo"], plain["elmo"], atol=1e-6)
    carried = {name: first[name] for name in ("cells", "states")}
    second = loaded.signatures["tokens_stateful"](**tokens, **carried)
    assert np.abs(second["elmo"] - first["elmo"]).max() > 0.1
    np.testing.assert_array_equal(loaded.signatures["tokens"](**tokens)["elmo"], plain["elmo"])


LONG_TEXTS = """
import sys
from pathlib import Path
import numpy as np, tensorflow as tf
model = tf.saved_model.load(sys.argv[1])
for count in (2_000, 4_000):
    words = tf.constant([[f"word{i}" for i in range(count)]])
    outputs = model.signatures["tokens"](tokens=words, sequence_len=tf.constant([count]))
    assert np.isfinite(outputs["elmo"].numpy()).all()
    # Not getrusage: its peak includes that of the process which started this one.
    lines = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    print(int(lines["VmHWM"].split()[0]) * 1024)
"""


@pytest.mark.slow
def test_a_text_of_20000_words_stays_under_4_gb(tmp_path: Path) -> None:
    """In the sizes of the original ELMo, in a process of its own, from what 2,000 and 4,000 words take."""
    from tests.support.models.elmo_reference import original_options, random_model

    options_file = tmp_path / "options.json"
    options_file.write_text(json.dumps(original_options()))
    elmo = Elmo(read_options(options_file), random_model(original_options(), seed=0), "random")
    path = tmp_path / "saved_model"
    tf.saved_model.save(elmo, str(path), signatures=signatures(elmo))
    command = [sys.executable, "-c", LONG_TEXTS, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=280)
    small, large = (int(line) for line in done.stdout.split())
    assert large + (large - small) / 2_000 * 16_000 < 4e9
