"""Changed models and manifests: each is refused with an error of this package, or does nothing outside."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from model_bundle.base.confined import run_confined
from model_bundle.base.sandbox import Limits
from model_bundle.bundle.bundle import ModelBundle
from model_bundle.bundle.graph_scan.scan import scan_folder
from model_bundle.bundle.manifest import MANIFEST_NAME, canonical_json
from model_bundle.errors import ModelBundleError, ModelCrashError
from tests.support.models.hostile_models import save_with_path_variable
from tests.support.models.saved_models import lengths, save, save_tf1
from tests.support.mutants.json import mutate_json
from tests.support.mutants.saved_models import mutate_model, snapshot

FAST = 120
# `.github/workflows/nightly.yml` asks for ten thousand.
NIGHTLY = int(os.environ.get("TESTS_MUTANTS", "1000"))
_PROGRESS, _LOADED = "progress", "loaded"


def with_parts(path: Path) -> Path:
    """Saves a model with a weight, a table that is saved, and one that is filled when it is loaded."""
    module = tf.Module()
    module.weight = tf.Variable(2.0)
    module.saved = tf.lookup.experimental.MutableHashTable(tf.string, tf.int64, -1)
    module.saved.insert(tf.constant(["a"]), tf.constant([1], tf.int64))
    values = tf.lookup.KeyValueTensorInitializer(tf.constant(["a"]), tf.constant([1], tf.int64))
    module.filled = tf.lookup.StaticHashTable(values, -1)

    def serve(text: Any) -> dict[str, Any]:
        number = tf.cast(module.filled.lookup(text) + module.saved.lookup(text), tf.float32)
        return {"vector": lengths(text)["vector"] * module.weight + number[:, tf.newaxis]}

    return save(path, serve, module)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("models")
    return [
        with_parts(folder / "parts"),
        save_with_path_variable(folder / "asset", folder / "words.txt"),
        save_tf1(folder / "first", folder / "words.txt"),
    ]


def load_those_that_pass(folders: list[str], own: str, use_scan: bool) -> int:
    """Scans and loads models, one after the other, and notes which one it is at; returns how many loaded."""
    progress = Path(own, _PROGRESS)
    start = int(progress.read_text()) if progress.exists() else 0
    for number in range(start, len(folders)):
        progress.write_text(str(number + 1))
        folder = Path(folders[number])
        try:
            if use_scan:
                scan_folder(folder, "a mutant")
            loaded = tf.saved_model.load(str(folder))
            for signature in loaded.signatures.values():
                specs = signature.structured_input_signature[1]
                signature(**{name: tf.constant(["a"], spec.dtype) for name, spec in specs.items()})
        except ModelBundleError:
            continue
        except Exception as error:  # TensorFlow, of a model that the scan let through: any will do
            Path(own, "last_error").write_text(repr(error)[:1000])
        with Path(own, _LOADED).open("a") as file:
            file.write(f"{number}\n")
    return len(folders)


def effects(models: list[Path], numbers: range, tmp_path: Path, *, use_scan: bool) -> tuple[list[str], int]:
    """Loads mutants in the sandbox.

    Returns:
        What happened outside of it, and how many passed the scan.
    """
    outside, own, made = (tmp_path / name for name in ("outside", "own", "mutants"))
    for folder in (outside, own, made):
        folder.mkdir()
    (outside / "secret").write_text("SECRET")
    folders = []
    for number in numbers:
        model = models[number % len(models)]
        folder = Path(shutil.copytree(model, made / str(number)))
        file = folder / "saved_model.pb"
        file.write_bytes(mutate_model(file.read_bytes(), number, str(outside / f"target-{number}")))
        folders.append(str(folder))
    before = snapshot(outside) | snapshot(made)
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        for _ in range(len(folders)):  # a mutant may end the process: it goes on behind it
            try:
                run_confined(Limits(own, (made,)), load_those_that_pass, folders, str(own), use_scan)
                break
            except ModelCrashError:
                continue
        happened = [path for path in snapshot(outside) | snapshot(made) if path not in before]
        with pytest.raises(BlockingIOError):
            server.accept()
    happened += [path for path, content in before.items() if Path(path).read_bytes() != content]
    assert int((own / _PROGRESS).read_text()) == len(folders)
    loaded = own / _LOADED
    return happened, len(loaded.read_text().split()) if loaded.exists() else 0


def test_a_changed_model_is_refused_or_does_nothing_outside(models: list[Path], tmp_path: Path) -> None:
    happened, passed = effects(models, range(FAST), tmp_path, use_scan=True)
    assert happened == []
    # Neither all nor none: else nothing would have been tried.
    assert FAST // 20 < passed < FAST * 9 // 10


@pytest.mark.slow
def test_the_sandbox_alone_stops_them_all(models: list[Path], tmp_path: Path) -> None:
    happened, passed = effects(models, range(60), tmp_path, use_scan=False)
    assert (happened, passed > 30) == ([], True)


@pytest.mark.slow
@pytest.mark.timeout(9000)
def test_many_changed_models(models: list[Path], tmp_path: Path) -> None:
    for start in range(FAST, FAST + NIGHTLY, 500):
        folder = tmp_path / str(start)
        folder.mkdir()
        happened, _ = effects(models, range(start, min(start + 500, FAST + NIGHTLY)), folder, use_scan=True)
        assert happened == []
        shutil.rmtree(folder)


def changed_manifests(bundle: Path, numbers: range, outside: str) -> Iterator[int]:
    good = json.loads((bundle / MANIFEST_NAME).read_bytes())
    for number in numbers:
        (bundle / MANIFEST_NAME).write_bytes(canonical_json(mutate_json(good, number, outside)))
        yield number


def open_all(build_tiny: Callable[[str], ModelBundle], numbers: range, tmp_path: Path) -> int:
    bundle = Path(shutil.copytree(build_tiny("tiny_bert").path, tmp_path / "bundle"))
    outside = tmp_path / "outside"
    outside.mkdir()
    opened = 0
    for _ in changed_manifests(bundle, numbers, str(outside / "file")):
        try:
            found = ModelBundle.open(bundle)
        except ModelBundleError:
            continue
        else:
            opened += 1
            assert found.allowed_ops == ()
    assert list(outside.iterdir()) == []
    return opened


def test_a_changed_manifest_opens_or_is_refused(
    build_tiny: Callable[[str], ModelBundle], tmp_path: Path
) -> None:
    assert 0 < open_all(build_tiny, range(FAST), tmp_path) < FAST // 2


@pytest.mark.slow
@pytest.mark.timeout(9000)
def test_many_changed_manifests(build_tiny: Callable[[str], ModelBundle], tmp_path: Path) -> None:
    assert open_all(build_tiny, range(FAST, FAST + NIGHTLY), tmp_path) > 0
