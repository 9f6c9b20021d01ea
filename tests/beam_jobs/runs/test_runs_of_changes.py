"""A run that holds only changes is not taken for the collection by anything that reads runs."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

import beam_jobs
from beam_jobs.errors import UsageError
from beam_jobs.report.page import make_page
from beam_jobs.runs.__main__ import main as runs
from beam_jobs.search.__main__ import main as search
from beam_jobs.store.finished_run import find_run
from beam_jobs.store.manifest import PreviousEntry
from tests.support.runs.made_runs import make_run

VECTORS = np.eye(4, dtype=np.float32)


@pytest.fixture
def changes(tmp_path: Path) -> Path:
    root = tmp_path / "out"
    make_run(root, "base", [{"ids": ["a", "b", "c"], "vectors": VECTORS[:3]}])
    entry = PreviousEntry(run_id="base", root=str(root / "base"))
    part = {"ids": ["d"], "vectors": VECTORS[3:]}
    return make_run(root, "night", [part], emit="changes", previous=entry)


def test_rows_of_changes_are_not_the_collection(changes: Path) -> None:
    for place in (changes, changes.parent):
        with pytest.raises(UsageError, match="holds only what changed since base"):
            beam_jobs.open_run(place)
    assert beam_jobs.open_run(changes, only_this_run=True).count_rows() == 1
    assert beam_jobs.open_run(changes.parent / "base").count_rows() == 3


def test_search_and_compact_refuse_changes(changes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert search([str(changes), "--query", "x"]) == 2
    assert "--only_this_run" in capsys.readouterr().err
    assert runs([str(changes), "compact"]) == 2
    assert "holds only what changed since base" in capsys.readouterr().err
    assert runs([str(changes), "list", "--only_this_run"]) == 2


def test_compacted_changes_still_need_their_base(changes: Path) -> None:
    assert runs([str(changes), "compact", "--only_this_run", "--run_id", "small"]) == 0
    copied = find_run(str(changes.parent / "small")).manifest
    assert (copied.emit, copied.previous) == ("changes", find_run(str(changes)).manifest.previous)


def test_validate_checks_what_the_run_needs(changes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert runs([str(changes), "validate"]) == 0
    assert f"{changes.parent / 'base'}: 1 file" in capsys.readouterr().out
    (path,) = (changes.parent / "base" / "embeddings").iterdir()
    path.write_bytes(path.read_bytes()[:-1])
    assert runs([str(changes), "validate"]) == 1
    assert runs([str(changes), "validate", "--only_this_run"]) == 0
    shutil.rmtree(changes.parent / "base")
    assert runs([str(changes), "validate"]) == 2


def test_the_report_says_what_it_covers(changes: Path) -> None:
    assert "only what changed since base" in make_page(find_run(str(changes)))
