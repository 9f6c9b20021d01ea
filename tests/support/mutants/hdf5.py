"""Changes HDF5 files of weights at random, in ways that look for a hole, and reads them with every reader."""

from __future__ import annotations

import json
import random
import resource
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from model_bundle.builders.elmo.bilm_files import read_weights
from model_bundle.builders.keras.load.config import read_config
from model_bundle.builders.keras.load.stored_weights import has_layers, read_layers, read_values
from model_bundle.builders.keras.source import find_source
from model_bundle.builders.weights.h5 import open_h5
from model_bundle.compare.expected import Expected
from model_bundle.compare.read_files import read_expected
from model_bundle.errors import ModelBundleError

_VALUE = np.arange(12, dtype="f").reshape(4, 3)
_MAX_BYTES = 1_000_000_000


def whole_model(path: Path) -> None:
    """A model as Keras 2 saves it: an architecture, and weights by name in lists of names."""
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps({"class_name": "Sequential", "config": {"layers": []}})
        file.attrs["keras_version"] = "2.15.0"
        _by_name(file.create_group("model_weights"))


def weights_by_name(path: Path) -> None:
    """Weights alone, in the same layout."""
    with h5py.File(path, "w") as file:
        _by_name(file)


def weights_by_place(path: Path) -> None:
    """Weights as in a .keras file, one dataset in chunks."""
    with h5py.File(path, "w") as file:
        file["layers/dense/vars/0"] = _VALUE
        file.create_dataset("layers/dense/vars/1", data=_VALUE, compression="gzip", shuffle=True)
        file["optimizer/vars/0"] = np.int64(3)
        file.create_group("layers/dropout/vars")


def vectors(path: Path) -> None:
    """Vectors of texts, as ``--expected`` takes them."""
    with h5py.File(path, "w") as file:
        for number in range(3):
            file[str(number)] = np.ones((3, 2, 4), "f")
        file["sentence_to_index"] = np.array([json.dumps({"a b": "0", "c d": "1", "e f": "2"})], "O")


BASES: tuple[Callable[[Path], None], ...] = (whole_model, weights_by_name, weights_by_place, vectors)


def _by_name(group: Any) -> None:
    group.attrs["layer_names"] = [b"dense"]
    dense = group.create_group("dense")
    dense.attrs["weight_names"] = [b"dense/kernel:0", b"dense/bias:0"]
    dense["dense/kernel:0"] = _VALUE
    dense["dense/bias:0"] = np.zeros(3, "f")


def write_mutant(path: Path, seed: int, secret: Path) -> None:
    """Writes a changed file.

    Args:
        path: the file to write.
        seed: decides what is changed.
        secret: another file that no reader may read, of at least 48 bytes.
    """
    chance = random.Random(seed)
    BASES[seed % len(BASES)](path)
    if chance.random() < 0.6:
        with h5py.File(path, "r+") as file:
            for _ in range(chance.randint(1, 3)):
                _edit(file, chance, secret)
        if chance.random() < 0.8:
            return
    path.write_bytes(_changed(path.read_bytes(), chance))


def _edit(file: Any, chance: random.Random, secret: Path) -> None:
    places: list[str] = ["/"]
    file.visit(places.append)
    place = chance.choice(places)
    item = file[place]
    if chance.random() < 0.4:
        _edit_attributes(item, chance, file)
        return
    parent = item if isinstance(item, h5py.Group) else item.parent
    name = chance.choice([*parent, "new", "layers", "0"]) if len(parent) else "new"
    if name in parent:
        del parent[name]
    chance.choice(_PARTS)(parent, name, chance, secret)


def _edit_attributes(item: Any, chance: random.Random, file: Any) -> None:
    name = chance.choice([*item.attrs, "layer_names", "weight_names", "model_config", "keras_version"])
    values: list[Any] = [
        3,
        np.nan,
        b"\xff\xfe",
        "x",
        "[]",
        "[" * 100_000,
        [b"dense", b"\xff"],
        [b"../dense"],
        [b"/"],
        [b""],
        [1.5],
        np.zeros((2, 2)),
        np.zeros(0, "S1"),
        h5py.Empty("f"),
        file.ref,
        np.array([(1, 2.0)], [("a", "i4"), ("b", "f4")]),
        {"class_name": "Lambda", "config": 3},
    ]
    value = chance.choice(values)
    item.attrs[name] = json.dumps(value) if isinstance(value, dict) else value
    if chance.random() < 0.2:
        del item.attrs[name]


def _group(parent: Any, name: str, chance: random.Random, secret: Path) -> None:
    del secret
    parent.create_group(name).attrs["weight_names"] = [chance.choice([b"0", b"a/b", b".."])]


def _dataset(parent: Any, name: str, chance: random.Random, secret: Path) -> None:
    del secret
    strings, floats = h5py.string_dtype(), h5py.vlen_dtype(np.dtype("f"))
    kinds: list[Any] = ["i1", "f2", "f8", "S7", "c8", "?", strings, floats, h5py.ref_dtype, "V5"]
    kinds += [np.dtype([("a", "i4"), ("b", strings)]), h5py.enum_dtype({"a": 1}), np.dtype(("f4", (2, 3)))]
    parent.create_dataset(name, chance.choice([(), (0,), (3,), (4, 3), (1,) * 20]), chance.choice(kinds))


def _huge(parent: Any, name: str, chance: random.Random, secret: Path) -> None:
    del secret
    shape = chance.choice([(1 << 40,), (1 << 20, 1 << 20, 1 << 20), (1 << 33, 1), (5_000_000,)])
    parent.create_dataset(name, shape, "f", chunks=(1 << 10,) + (1,) * (len(shape) - 1))


def _outside(parent: Any, name: str, chance: random.Random, secret: Path) -> None:
    which = chance.randrange(3)
    if which == 0:
        parent.create_dataset(name, (4, 3), "f", external=[(str(secret), 0, 48)])
    elif which == 1:
        parent[name] = h5py.ExternalLink(str(secret), chance.choice(["/", "kernel", "a/b"]))
    else:
        layout = h5py.VirtualLayout((4, 3), "f")
        layout[:] = h5py.VirtualSource(str(secret), "kernel", (4, 3))
        parent.create_virtual_dataset(name, layout)


def _link(parent: Any, name: str, chance: random.Random, secret: Path) -> None:
    del secret
    if chance.random() < 0.5:
        parent[name] = h5py.SoftLink(chance.choice(["/", ".", f"./{name}", "/nowhere", "/layers"]))
    else:
        parent[name] = chance.choice([parent, parent.file["/"]])


def _type(parent: Any, name: str, chance: random.Random, secret: Path) -> None:
    del secret
    parent[name] = np.dtype(chance.choice(["f4", "S3"]))


_PARTS: tuple[Callable[[Any, str, random.Random, Path], None], ...] = (
    _group,
    _dataset,
    _huge,
    _outside,
    _link,
    _type,
)


def _changed(content: bytes, chance: random.Random) -> bytes:
    """Changes bytes of what describes the data rather than of the data, which comes last."""
    changed = bytearray(content)
    end = chance.choice([200, 2000, len(changed)])
    for _ in range(chance.randint(1, 12)):
        place = chance.randrange(min(end, len(changed)))
        changed[place] = chance.choice([0, 1, 255, chance.randrange(256), changed[place] ^ 1])
    return bytes(changed[: chance.randint(1, len(changed))] if chance.random() < 0.1 else changed)


def _read_all(path: Path) -> list[np.ndarray]:
    stored = open_h5(path)
    return [stored.read(name) for name in stored.shapes]


def _read_config(path: Path) -> None:
    read_config(find_source(path))


READERS: tuple[Callable[[Path], object], ...] = (
    _read_config,
    has_layers,
    read_layers,
    read_values,
    _read_all,
    read_expected,
    read_weights,
)


def read_mutants(numbers: Sequence[int], own: str, secret: str) -> list[str]:
    """Reads mutants with every reader, from where it stopped before; runs in a confined process.

    Returns:
        What was raised that is no error of this package, and whatever took too much memory.
    """
    progress, faults = Path(own, "progress"), Path(own, "faults")
    allowed = max(_MAX_BYTES, _peak_bytes())  # a new process begins with the peak of the one that started it
    start = int(progress.read_text()) if progress.exists() else 0
    for index in range(start, len(numbers)):
        progress.write_text(str(index + 1))
        path = Path(own, "mutant.h5")
        write_mutant(path, numbers[index], Path(secret))
        found = [fault for reader in READERS if (fault := _fault(reader, path)) is not None]
        if _peak_bytes() > allowed:
            found.append(f"{_peak_bytes()} bytes of memory")
        with faults.open("a") as file:
            file.writelines(f"{numbers[index]}: {fault}\n" for fault in found)
    return faults.read_text().splitlines()


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _fault(reader: Callable[[Path], object], path: Path) -> str | None:
    try:
        found = reader(path)
    except ModelBundleError:
        return None
    except Exception as error:  # whatever it is, a reader should have turned it into an error of its own
        return f"{reader.__name__} raised {type(error).__name__}: {str(error)[:300]}"
    return f"{reader.__name__} read another file" if _holds_secret(found) else None


def _holds_secret(value: object) -> bool:
    if isinstance(value, np.ndarray):
        kept = value.astype("f") if value.dtype.kind == "f" else value
        return b"SECRET" in kept.tobytes()
    if isinstance(value, dict):
        return any(map(_holds_secret, value.values()))
    if isinstance(value, Expected):
        return _holds_secret(value.vectors)
    return isinstance(value, list | tuple) and any(map(_holds_secret, value))
