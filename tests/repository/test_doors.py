"""What opens a file of somebody else's goes through one module for each format, which scans it first."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.runs.jobs import PROJECT

_UNTRUSTED = "model_bundle/base/untrusted"
# Calls by the end of their dotted name, and the only modules that may make them.
DOORS: dict[str, set[str]] = {
    "h5py.File": {f"{_UNTRUSTED}/hdf5.py"},
    "zipfile.ZipFile": {f"{_UNTRUSTED}/zips.py"},
    "zipfile.Path": set(),
    "tarfile.open": {"model_bundle/builders/tfhub/archive.py"},
    "tarfile.TarFile": set(),
    "unpack_archive": set(),
    "saved_model.load": {"model_bundle/runtime/saved_model.py"},
    "saved_model.load_v2": set(),
    "saved_model.loader.load": set(),
    "np.load of pickles": set(),
    "hub.load": set(),
    "hub.Module": set(),
    "KerasLayer": set(),
    "TFSMLayer": set(),
    "models.load_model": {"model_bundle/builders/keras/load/child.py"},
    "saving.load_model": set(),
    "models.model_from_json": {"model_bundle/builders/keras/load/child.py"},
    "marshal.loads": {"model_bundle/builders/keras/load/byte_code.py"},
    "enable_unsafe_deserialization": {"model_bundle/builders/keras/load/child.py"},
}
# What runs code from a file, or takes a library from one: nobody.
_NOBODY = """
    pickle.load pickle.loads Unpickler cloudpickle.load cloudpickle.loads dill.load dill.loads joblib.load
    torch.load read_pickle shelve.open marshal.load yaml.load yaml.unsafe_load load_op_library load_library
    eval exec
"""
DOORS |= {name: set() for name in _NOBODY.split()}
# These write a new zip.
ZIP_WRITERS = {"model_bundle/builders/keras/load/child.py", "model_bundle/bundle/packed.py"}


class _WithoutAnnotations(ast.NodeTransformer):
    """Drops types, and the opening of a zip to write it."""

    def __init__(self, place: str = "") -> None:
        self.place = place

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        is_written = len(node.args) > 1 and ast.unparse(node.args[1]) == "'w'"
        if is_written and self.place in ZIP_WRITERS and ast.unparse(node.func) == "zipfile.ZipFile":
            return ast.Constant(None)
        return self.generic_visit(node)


def calls(tree: ast.AST, place: str = "") -> Iterator[tuple[int, str]]:
    """Yields line and dotted name of everything that is called or passed on."""
    for node in ast.walk(_WithoutAnnotations(place).visit(tree)):
        if isinstance(node, ast.Attribute | ast.Name):
            yield node.lineno, ast.unparse(node)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.lineno, f"{node.module}.{name.name}") for name in node.names)
        elif isinstance(node, ast.Call):
            yield from ((node.lineno, "np.load of pickles") for word in node.keywords if allows_pickle(word))


def allows_pickle(word: ast.keyword) -> bool:
    return word.arg == "allow_pickle" and ast.unparse(word.value) != "False"


def passes(name: str) -> str | None:
    """Returns the door that a name is, or None."""
    return next((door for door in DOORS if name == door or name.endswith(f".{door}")), None)


def found(path: Path) -> Iterator[str]:
    place = path.relative_to(PROJECT).as_posix()
    for line, name in calls(ast.parse(path.read_text(encoding="utf-8")), place):
        door = passes(name)
        if door is not None and place not in DOORS[door]:
            yield f"{place}:{line}: {name}"


@pytest.mark.parametrize("package", ["model_bundle", "beam_jobs"])
def test_each_format_has_one_door(package: str) -> None:
    files = sorted((PROJECT / package).rglob("*.py"))
    assert files
    assert [line for path in files for line in found(path)] == []


@pytest.mark.parametrize(
    "code",
    [
        "tf.saved_model.load(path)",
        "tf.compat.v1.saved_model.load(session, tags, path)",
        "load = tf.saved_model.load",
        "from tensorflow.saved_model import load\nx = tensorflow.saved_model.load",
        "tensorflow_hub.load(path)".replace("tensorflow_hub", "hub"),
        "import tensorflow_hub as hub\nhub.KerasLayer(handle)",
        "from keras.models import load_model",
        "import h5py\nopened = h5py.File(path)",
        "from h5py import File",
        "from zipfile import ZipFile",
        "zipfile.ZipFile(path, 'w')",
        "zipfile.ZipFile(path, mode='r')",
        "tarfile.open(path)",
        "shutil.unpack_archive(path)",
        "import pickle\npickle.loads(data)",
        "from pickle import load",
        "np.load(path, allow_pickle=True)",
        "np.load(path, allow_pickle=choice)",
        "tf.load_op_library(path)",
        "eval(text)",
    ],
)
def test_other_ways_to_write_it_are_found(code: str) -> None:
    assert any(passes(name) for _, name in calls(ast.parse(code)))


def test_the_doors_are_there() -> None:
    """A door that moved would leave its rule empty."""
    for door, places in DOORS.items():
        for place in places:
            names = [name for _, name in calls(ast.parse((PROJECT / place).read_text(encoding="utf-8")))]
            assert any(passes(name) == door for name in names), (door, place)
