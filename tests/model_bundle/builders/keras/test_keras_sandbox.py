"""With no look at a file at all, the sandbox alone stops what Keras files and HDF5 files reach out for."""

from __future__ import annotations

import codecs
import json
import marshal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from model_bundle.base.confined import run_confined
from model_bundle.base.sandbox import Limits
from model_bundle.builders.keras.load.child import LoadTask, export_keras, start_keras
from tests.model_bundle.base.test_sandbox import needs_landlock
from tests.model_bundle.base.untrusted.test_hdf5 import external_link, external_storage, virtual_dataset

Config = dict[str, Any]


def layer(class_name: str, *calls: Any, name: str = "evil", **config: Any) -> Config:
    inner = {"name": name, **config}
    return {"class_name": class_name, "config": inner, "name": name, "inbound_nodes": list(calls)}


def model(*layers: Config) -> Config:
    """An architecture of Keras 2 whose layers are called while it is loaded."""
    start = layer("InputLayer", name="start", batch_input_shape=[None, 4], dtype="float32")
    dense = layer("Dense", [["start", 0, 0, {}]], name="dense", units=3)
    config = {"name": "m", "layers": [start, *layers, dense]}
    config |= {"input_layers": [["start", 0, 0]], "output_layers": [["dense", 0, 0]]}
    return {"class_name": "Functional", "config": config, "keras_version": "2.15.0"}


def constant(value: str, **more: Any) -> list[Any]:
    return ["_CONSTANT_VALUE", -1, value, more]


def byte_code(function: Callable[..., Any], value: str) -> Config:
    stored = codecs.encode(marshal.dumps(function.__code__), "base64").decode()
    more = {"output_shape": None, "output_shape_type": "raw", "output_shape_module": None, "arguments": {}}
    code = {"function": [stored, None, None], "function_type": "lambda", "module": None}
    return model(layer("Lambda", constant(value), **code, **more))


def copies(source: Path, target: Path) -> Config:
    return model(layer("TFOpLambda", constant(str(source), dst=str(target)), function="io.gfile.copy"))


def runs(target: Path) -> Config:
    named = {"class_name": "function", "module": "os", "config": "system", "registered_name": "system"}
    config = byte_code(lambda x: x, f"touch {target}")
    config["config"]["layers"][1]["config"] |= {"function": named, "function_type": "function"}
    return config


def reads_words(secret: Path) -> Config:
    return model(layer("StringLookup", constant("a"), vocabulary=str(secret)))


# Each fails in the sandbox and leaves a file, or a connection, without it. The argument is a path or a port.
CODE: list[Callable[[str], Any]] = [
    lambda x: __import__("pathlib").Path(x).write_text("x"),
    lambda x: __import__("subprocess").run(["touch", x], check=True),
    lambda x: __import__("os").posix_spawn("/usr/bin/touch", ["touch", x], {}),
    lambda x: __import__("os").symlink("/", x),
    lambda x: __import__("os").mkfifo(x),
    lambda x: __import__("tensorflow").io.write_file(x, "x"),
    lambda x: __import__("ctypes").CDLL(None).creat(x.encode(), 0o600),
]


def load_unchecked(tasks: list[LoadTask]) -> list[str]:
    """Loads what no check has seen; returns how each ended."""
    start_keras(True)
    return [str(export_keras(task).fault) for task in tasks]


def tasks(configs: list[Config], own: Path) -> list[LoadTask]:
    made = []
    for number, config in enumerate(configs):
        (own / str(number)).mkdir(parents=True)
        weights, out = own / str(number) / "weights.h5", own / str(number) / "out"
        with h5py.File(weights, "w") as file:
            file.attrs["layer_names"] = np.array([], "S1")
        made.append(
            LoadTask("json", "", json.dumps(config), str(weights), "", (), {}, {}, True, False, str(out))
        )
    return made


@needs_landlock
@pytest.mark.slow
def test_no_effect_of_a_keras_file_leaves_the_sandbox(tmp_path: Path) -> None:
    outside, own, free = (tmp_path / name for name in ("outside", "own", "free"))
    for folder in (outside, own, free):
        folder.mkdir()
    secret = outside / "secret"
    secret.write_text("SECRET\n")
    targets = [outside / f"target-{number}" for number in range(len(CODE))]
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(5)
        connects = byte_code(
            lambda x: __import__("socket").create_connection(("127.0.0.1", int(x))),
            str(server.getsockname()[1]),
        )
        configs = [
            *(byte_code(code, str(target)) for code, target in zip(CODE, targets, strict=True)),
            copies(secret, outside / "copied"),
            runs(outside / "ran"),
            connects,
            reads_words(secret),
            byte_code(lambda x: int(open(x).read()), str(secret)),  # noqa: SIM115, PTH123
        ]
        told = run_confined(Limits(own), load_unchecked, tasks(configs, own))
        assert [path.name for path in outside.iterdir()] == ["secret"], told
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()
        assert not any("SECRET" in text for text in told), told
        # The same without the sandbox: the files are as bad as they look.
        told = run_confined(None, load_unchecked, tasks(configs, free))
        expected = {"secret", "copied", "ran", *(target.name for target in targets)}
        assert {path.name for path in outside.iterdir()} == expected, told
        server.settimeout(5)
        server.accept()[0].close()
    assert "SECRET" in told[-1]


def read_unchecked(paths: list[str]) -> list[str]:
    """Reads a dataset of each file as h5py does."""
    found = []
    for path in paths:
        try:
            with h5py.File(path) as file:
                found.append(str(np.asarray(file["kernel"]).ravel().tolist()))
        except (OSError, KeyError) as error:
            found.append(f"failed: {error}")
    return found


@needs_landlock
@pytest.mark.slow
def test_the_sandbox_reads_no_data_of_other_hdf5_files(tmp_path: Path) -> None:
    outside, own = tmp_path / "outside", tmp_path / "own"
    outside.mkdir()
    own.mkdir()
    paths = []
    for put in (external_storage, external_link, virtual_dataset):
        paths.append(str(own / f"{put.__name__}.h5"))
        with h5py.File(paths[-1], "w") as file:
            put(file, outside)
    secret = str(np.arange(12.0).tolist())
    told = run_confined(Limits(own), read_unchecked, paths)
    assert not any(secret in text for text in told), told
    assert run_confined(None, read_unchecked, paths) == [secret] * len(paths)
