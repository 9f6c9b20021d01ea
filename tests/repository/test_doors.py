"""What opens a file of somebody else's goes through one module for each format, which scans it first."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.runs.jobs import PROJECT

# Calls by the end of their dotted name, and the only modules that may make them.
DOORS = {
    "saved_model.load": {"model_bundle/runtime/saved_model.py"},
    "saved_model.load_v2": set(),
    "saved_model.loader.load": set(),
    "hub.load": set(),
    "hub.Module": set(),
    "KerasLayer": set(),
    "TFSMLayer": set(),
    "models.load_model": {"model_bundle/builders/keras/load/child.py"},
    "saving.load_model": set(),
    "models.model_from_json": {"model_bundle/builders/keras/load/child.py"},
}


def calls(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yields line and dotted name of everything that is called or passed on."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute | ast.Name):
            yield node.lineno, ast.unparse(node)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.lineno, f"{node.module}.{name.name}") for name in node.names)


def passes(name: str) -> str | None:
    """Returns the door that a name is, or None."""
    return next((door for door in DOORS if name == door or name.endswith(f".{door}")), None)


def found(path: Path) -> Iterator[str]:
    place = path.relative_to(PROJECT).as_posix()
    for line, name in calls(ast.parse(path.read_text(encoding="utf-8"))):
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
