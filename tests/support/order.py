"""The order in which files are handed to the processes: what takes long first, so that both end together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

# Seconds of processor time, about, of the longest files; `pytest --durations=0` shows what is out of date.
_LONG = {
    "keras/test_keras_files.py": 30,
    "keras/test_keras_import.py": 22,
    "keras/test_keras_traps.py": 22,
    "compare/test_compare.py": 19,
    "incremental/test_reuse.py": 18,
    "repository/test_commands.py": 18,
    "elmo/test_elmo_graph.py": 17,
    "incremental/test_resume.py": 17,
    "jobs/test_job_classify.py": 16,
    "jobs/test_job_output.py": 15,
    "jobs/test_job_windows.py": 13,
    "elmo/test_build_elmo.py": 12,
    "elmo/test_elmo_saved_model.py": 12,
    "keras/test_keras_build.py": 12,
    "layers/test_layers.py": 12,
    "layers/test_layers_saved.py": 12,
    "incremental/test_changes.py": 11,
    "tfhub/test_build_hub.py": 11,
    "repository/test_packaging.py": 11,
    "inference/test_stateful_elmo.py": 10,
    "jobs/test_job_faults.py": 10,
    "runtime/test_isolated.py": 9,
}


def longest_first(items: Sequence[pytest.Item]) -> list[pytest.Item]:
    """Returns the tests with those of long files first; within a file nothing moves."""
    return sorted(items, key=lambda item: -seconds(item.path))


def seconds(path: Path) -> int:
    """Returns what a file is known to take, 0 if it is short."""
    return _LONG.get("/".join(path.parts[-2:]), 0)
