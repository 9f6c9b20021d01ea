"""Files that cannot become an ELMo are refused in words that help."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from model_bundle.builders.elmo.bilm_files import read_options, read_weights
from model_bundle.builders.graphs.elmo_options import check_weights
from model_bundle.errors import SourceError, WeightsMismatchError
from tests.support.models import elmo_reference as reference

OPTIONS: dict[str, Any] = {
    "char_cnn": {
        "activation": "relu",
        "embedding": {"dim": 4},
        "filters": [[1, 3], [3, 5]],
        "n_highway": 1,
        "n_characters": 262,
        "max_characters_per_token": 12,
    },
    "lstm": {"projection_dim": 6, "dim": 7, "n_layers": 1, "cell_clip": 3, "proj_clip": 3},
    "unroll_steps": 20,
}


def write_options(tmp_path: Path, **changes: Any) -> Path:
    """Writes the options with changes like ``lstm__dim=3``; the value ``...`` removes the key."""
    options = json.loads(json.dumps(OPTIONS))
    for key, value in changes.items():
        *parents, last = key.split("__")
        part = options
        for parent in parents:
            part = part[parent]
        if value is ...:
            del part[last]
        else:
            part[last] = value
    path = tmp_path / "options.json"
    path.write_text(json.dumps(options))
    return path


def write_weights(tmp_path: Path, **changes: np.ndarray) -> Path:
    path = tmp_path / "weights.hdf5"
    with h5py.File(path, "w") as file:
        for name, value in (reference.random_model(OPTIONS, seed=0) | changes).items():
            file[name] = value
    return path


def test_weights_are_read_by_name_as_float32(tmp_path: Path) -> None:
    expected = reference.random_model(OPTIONS, seed=0)
    found = read_weights(write_weights(tmp_path, char_embed=expected["char_embed"].astype(np.float64)))
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].dtype == np.float32
        np.testing.assert_array_equal(found[name], value)
    check_weights(read_options(write_options(tmp_path)), found, "here")


def test_keys_of_training_are_ignored_and_optional_ones_have_bilms_defaults(tmp_path: Path) -> None:
    path = write_options(
        tmp_path,
        char_cnn__n_highway=...,
        char_cnn__n_characters=261,
        lstm__cell_clip=...,
        lstm__proj_clip=None,
        n_epochs=10,
    )
    options = read_options(path)
    assert (options.num_highways, options.cell_clip, options.projection_clip) == (0, None, None)
    assert not options.use_skip_connections


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"lstm": ...}, "lstm: Field required"),
        ({"char_cnn": ...}, "char_cnn: Field required"),
        ({"lstm__dim": 0}, r"lstm.dim: .*greater than 0 \(found 0\)"),
        ({"lstm__dim": "many"}, r"lstm.dim: .* \(found 'many'\)"),
        ({"lstm__cell_clip": -1}, r"lstm.cell_clip: .* \(found -1\)"),
        ({"char_cnn__activation": "selu"}, r"char_cnn.activation: .*'relu' or 'tanh' \(found 'selu'\)"),
        ({"char_cnn__n_characters": 300}, r"char_cnn.n_characters: .*261 or 262 \(found 300\)"),
        ({"char_cnn__filters": []}, "char_cnn.filters"),
        ({"char_cnn__filters": [[13, 2]]}, "a filter of width 13 does not fit max_characters_per_token 12"),
        ({"bidirectional": False}, "bidirectional: .*found False"),
        ({"char_cnn__surprise": 1}, "char_cnn sets .surprise. to 1, which no supported model"),
    ],
)
def test_options_that_make_no_model(changes: dict[str, Any], says: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=says):
        read_options(write_options(tmp_path, **changes))


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"\x89HDF\r\n\x1a\n"])
def test_options_that_are_not_json(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "options.json"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=r"options\.json is not JSON"):
        read_options(path)


def test_options_that_are_not_an_object(tmp_path: Path) -> None:
    path = tmp_path / "options.json"
    path.write_text("[1]")
    with pytest.raises(SourceError, match=r"the file: .*found"):
        read_options(path)


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="cannot be read"):
        read_options(tmp_path / "options.json")
    with pytest.raises(SourceError, match="does not exist"):
        read_weights(tmp_path / "weights.hdf5")


@pytest.mark.parametrize("kept", [0.01, 0.3, 0.9])
def test_truncated_weights(kept: float, tmp_path: Path) -> None:
    path = write_weights(tmp_path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(SourceError, match="is not a complete HDF5 file"):
        read_weights(path)


def test_weights_that_are_no_hdf5(tmp_path: Path) -> None:
    path = tmp_path / "weights.hdf5"
    path.write_text("<html>404</html>")
    with pytest.raises(SourceError, match="is not an HDF5 file"):
        read_weights(path)


def test_weights_that_are_no_numbers(tmp_path: Path) -> None:
    path = tmp_path / "weights.hdf5"
    with h5py.File(path, "w") as file:
        file["model_config"] = "a Keras model"
    with pytest.raises(SourceError, match="model_config contains object, expected floating-point weights"):
        read_weights(path)


def test_options_and_weights_that_do_not_match_name_both_shapes(tmp_path: Path) -> None:
    weights = read_weights(write_weights(tmp_path))
    options = read_options(write_options(tmp_path, lstm__dim=9))
    with pytest.raises(WeightsMismatchError) as caught:
        check_weights(options, weights, "weights.hdf5")
    assert "RNN_0/RNN/MultiRNNCell/Cell0/LSTMCell/W_0: stored (12, 28), expected (12, 36)" in str(
        caught.value
    )


def test_missing_and_surplus_weights_are_named(tmp_path: Path) -> None:
    weights = read_weights(write_weights(tmp_path))
    options = read_options(write_options(tmp_path, char_cnn__n_highway=0, lstm__n_layers=2))
    with pytest.raises(WeightsMismatchError) as caught:
        check_weights(options, weights, "weights.hdf5")
    assert "CNN_high_0/W_carry (8, 8)" in caught.value.unused
    assert "RNN_1/RNN/MultiRNNCell/Cell1/LSTMCell/W_0" in caught.value.missing


def test_weights_with_nan_are_refused(tmp_path: Path) -> None:
    weights = read_weights(write_weights(tmp_path))
    weights["CNN_proj/b_proj"][0] = np.nan
    with pytest.raises(WeightsMismatchError, match="CNN_proj/b_proj: contains NaN or infinity"):
        check_weights(read_options(write_options(tmp_path)), weights, "weights.hdf5")
