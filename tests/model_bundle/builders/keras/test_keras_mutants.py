"""Changed Keras architectures: each is refused with an error of this package, or does nothing outside."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import get_args

import pytest

from model_bundle.base.confined import run_confined
from model_bundle.base.sandbox import Limits
from model_bundle.builders.keras.load.child import LoadTask
from model_bundle.builders.keras.load.parent import Generation
from model_bundle.errors import ModelCrashError
from tests.support.mutants.keras import load_mutants, mutants

FAST = 150
# `.github/workflows/nightly.yml` asks for ten thousand.
NIGHTLY = int(os.environ.get("TESTS_MUTANTS", "1000"))
_AT_ONCE = 500


def test_a_changed_architecture_is_refused_or_only_computes(tmp_path: Path) -> None:
    passed = mutants(range(FAST), tmp_path, str(tmp_path / "target"))
    # Neither all nor none: else nothing would have been tried.
    assert FAST // 5 < len(passed) < FAST * 4 // 5


@pytest.mark.slow
@pytest.mark.timeout(9000)
def test_many_changed_architectures_do_nothing_outside(tmp_path: Path) -> None:
    loaded = 0
    for start in range(FAST, FAST + NIGHTLY, _AT_ONCE):
        folder = tmp_path / str(start)
        folder.mkdir()
        loaded += load_all(range(start, min(start + _AT_ONCE, FAST + NIGHTLY)), folder)
        shutil.rmtree(folder)
    assert loaded > NIGHTLY // 20


def load_all(numbers: range, folder: Path) -> int:
    """Loads those that pass with their Keras, in the sandbox; returns how many became a model.

    What they must not reach lies in the folder that the sandbox lets them write to: the list alone stops
    them. Of programs and sockets, an attempt counts.
    """
    loaded = 0
    target = folder / "target"
    passed = mutants(numbers, folder, str(target))
    for generation in get_args(Generation):
        own = folder / f"keras-{generation}"
        own.mkdir()
        tasks = [(number, task) for number, task, wanted in passed if wanted == generation]
        assert events(tasks, generation, folder, own) == []
        loaded += len((own / "loaded").read_text().split())
    assert not target.exists()
    return loaded


def events(tasks: list[tuple[int, LoadTask]], generation: Generation, folder: Path, own: Path) -> list[str]:
    """Returns what was tried that no model needs, and the mutants that ended the process."""
    ended = []
    for _ in tasks:
        try:
            return [*ended, *run_confined(Limits(folder), load_mutants, tasks, generation, str(own))]
        except ModelCrashError as error:
            ended.append(f"{tasks[int((own / 'progress').read_text()) - 1][0]}: {error}")
    return ended
