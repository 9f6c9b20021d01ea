"""The order in which files are handed to the processes: what takes long first, so that both end together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

# Seconds, about, of the longest files; `pytest --durations=0` shows when they are out of date.
_LONG = {
    "compare/test_compare.py": 60,
    "keras/test_keras_import.py": 50,
    "training/test_training.py": 45,
    "layers/test_layers_elmo.py": 40,
    "jobs/test_job_signals.py": 35,
    "keras/test_keras_files.py": 35,
    "keras/test_keras_traps.py": 35,
    "layers/test_layers_saved.py": 30,
    "jobs/test_job_words.py": 25,
    "incremental/test_resume.py": 25,
    "elmo/test_build_elmo.py": 20,
    "keras/test_keras_build.py": 20,
    "inference/test_encoder_minilm.py": 20,
    "inference/test_stateful_elmo.py": 20,
    "jobs/test_job_faults.py": 20,
    "bundle/test_graph_scan.py": 18,
    "runtime/test_freeze.py": 18,
}


def longest_first(items: Sequence[pytest.Item]) -> list[pytest.Item]:
    """Returns the tests with those of long files first; within a file nothing moves."""
    return sorted(items, key=lambda item: -seconds(item.path))


def seconds(path: Path) -> int:
    """Returns what a file is known to take, 0 if it is short."""
    return _LONG.get("/".join(path.parts[-2:]), 0)
