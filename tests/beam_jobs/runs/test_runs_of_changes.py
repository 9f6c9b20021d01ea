"""A run that holds only changes is read together with the runs that complete it, or refused."""

from __future__ import annotations

import hashlib
import json
import pickle
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import beam_jobs
from beam_jobs.errors import JobError, UsageError
from beam_jobs.report.__main__ import main as report
from beam_jobs.report.page import make_page
from beam_jobs.report.row_sample import sample_rows
from beam_jobs.runs.__main__ import main as runs
from beam_jobs.search.nearest import nearest
from beam_jobs.store.chain import find_collection
from beam_jobs.store.finished_run import find_run
from beam_jobs.store.manifest import PreviousEntry, RunManifest
from tests.support.runs.made_runs import make_changes as add_changes
from tests.support.runs.made_runs import make_run, rewrite_manifest

VECTORS = np.eye(5, dtype=np.float32)
# What a run of changes says of ids: a number is the new vector, None removes.
Night = Mapping[str, int | None]


def make_night(root: Path, run_id: str, before: str, known: dict[str, int], night: Night) -> Path:
    """Writes a run of changes and brings the expected vectors of all ids up to date."""
    change = {
        name: "removed" if v is None else "changed" if name in known else "added" for name, v in night.items()
    }
    for name, vector in night.items():
        known.pop(name, None)
        if vector is not None:
            known[name] = vector
    new = {name: vector for name, vector in night.items() if vector is not None}
    shards = [{"ids": list(new), "vectors": VECTORS[list(new.values())]}] if new else []
    return add_changes(root, run_id, before, shards, change, num_documents=len(known))


@pytest.fixture
def changes(tmp_path: Path) -> Path:
    """Three documents; in the first night b changes, c goes and d comes, in the second c comes back."""
    known = {"a": 0, "b": 1, "c": 2}
    root = tmp_path / "out"
    make_run(
        root, "base", [{"ids": ["a", "b"], "vectors": VECTORS[:2]}, {"ids": ["c"], "vectors": VECTORS[2:3]}]
    )
    make_night(root, "night1", "base", known, {"b": 4, "c": None, "d": 3})
    folder = make_night(root, "night2", "night1", known, {"c": 3})
    assert known == {"a": 0, "b": 4, "d": 3, "c": 3}
    return folder


def vectors_of(rows: Any) -> dict[str, int]:
    """Returns which unit vector each id has; fails if an id is there twice."""
    found = [(row["doc_id"], int(np.argmax(row["embedding"]))) for row in rows.to_pylist()]
    assert len(found) == len(dict(found))
    return dict(found)


def test_open_run_follows_the_chain(changes: Path) -> None:
    for place in (changes, changes.parent):
        rows = beam_jobs.open_run(place)
        assert vectors_of(rows.to_table()) == {"a": 0, "b": 4, "d": 3, "c": 3}
        assert rows.count_rows() == 4
    assert rows.to_table(columns=["doc_id"], filter=pc.field("doc_id") > "b").column(0).to_pylist() == [
        "d",
        "c",
    ]
    assert rows.filter(pc.field("doc_id") <= "b").count_rows() == 2
    assert rows.head(1).num_rows == 1
    assert pickle.loads(pickle.dumps(rows)).count_rows() == 4
    assert duckdb.sql("SELECT doc_id FROM rows WHERE doc_id < 'c' ORDER BY 1").fetchall() == [("a",), ("b",)]
    assert pa.types.is_fixed_size_list(
        beam_jobs.open_run(changes, fixed_size=True).schema.field("embedding").type
    )
    with pytest.raises(ValueError, match="would show the rows that it hides"):
        rows.get_fragments()
    assert beam_jobs.open_run(changes, only_this_run=True).count_rows() == 1
    assert beam_jobs.open_run(changes.parent / "night1").count_rows() == 3
    assert beam_jobs.open_run(changes.parent / "base").count_rows() == 3


def test_search_finds_the_newest_rows_alone(changes: Path) -> None:
    found = nearest(find_collection(str(changes)), VECTORS[[2, 3, 4]], 2, column="embedding")
    names = [{n.doc_id for n in own if n.similarity > 0.5} for own in found]
    assert names == [set(), {"c", "d"}, {"b"}]  # what c was once is gone


def test_compacting_a_chain_gives_a_whole_run(changes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert runs([str(changes), "compact", "--run_id", "small"]) == 0
    assert "3 runs" not in capsys.readouterr().err
    copied = find_run(str(changes.parent / "small"))
    assert copied.manifest.emit == "all"
    counts = copied.manifest.counts
    assert (counts.num_written + counts.num_reused, counts.num_unchanged, counts.changes) == (4, 0, {})
    assert {file.kind for file in copied.manifest.files} == {"embeddings"}
    for night in ("base", "night1", "night2"):
        shutil.rmtree(changes.parent / night)
    assert vectors_of(beam_jobs.open_run(copied.folder).to_table()) == {"a": 0, "b": 4, "d": 3, "c": 3}
    assert runs([copied.folder, "validate"]) == 0


def test_compacted_changes_still_need_their_base(changes: Path) -> None:
    assert runs([str(changes), "compact", "--only_this_run", "--run_id", "small"]) == 0
    copied = find_run(str(changes.parent / "small")).manifest
    assert (copied.emit, copied.previous) == ("changes", find_run(str(changes)).manifest.previous)
    assert beam_jobs.open_run(changes.parent / "small").count_rows() == 4


def test_a_copy_that_loses_a_document_is_not_committed(
    changes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    counts = json.loads((changes / "manifest.json").read_text())["counts"]
    rewrite_manifest(changes, counts=counts | {"num_read": 5, "num_unchanged": 4})
    assert runs([str(changes), "compact", "--run_id", "small"]) == 4
    assert "-1 documents" in capsys.readouterr().err


def test_validate_checks_the_runs_and_the_collection(
    changes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert runs([str(changes), "validate"]) == 0
    assert "with the 2 runs before it" in capsys.readouterr().out
    counts = json.loads((changes / "manifest.json").read_text())["counts"]
    rewrite_manifest(changes, counts=counts | {"num_read": 5, "num_unchanged": 4})
    assert runs([str(changes), "validate"]) == 1
    assert "rows of 4 documents, the manifest counts 5" in capsys.readouterr().out
    path = next((changes.parent / "base" / "embeddings").iterdir())
    path.write_bytes(path.read_bytes()[:-1])
    assert runs([str(changes), "validate"]) == 1
    assert runs([str(changes), "validate", "--only_this_run"]) == 0


def test_the_report_says_what_it_covers(changes: Path, tmp_path: Path) -> None:
    run = find_collection(str(changes))
    sample = sample_rows(run, with_text=True)
    assert sample is not None
    assert sorted(sample.names) == ["a", "b", "c", "d"]
    assert "of all rows, with 2 runs before" in make_page(run)
    page = tmp_path / "page.html"
    assert report([str(changes), "--output", str(page)]) == 0
    assert "only what changed since night1; the map" in page.read_text()
    assert report([str(changes), "--output", str(page), "--only_this_run"]) == 0
    assert "the map" not in page.read_text()


def test_runs_that_are_needed_are_not_deleted(changes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert runs([str(changes.parent), "delete", "--keep", "1", "--yes"]) == 0
    assert "0 runs to delete" in capsys.readouterr().out


def _missing(root: Path) -> None:
    shutil.rmtree(root / "base")


def _circle(root: Path) -> None:
    rewrite_manifest(root / "base", emit="changes", previous={"run_id": "night2", "root": "/nowhere"})


def _own(root: Path) -> None:
    rewrite_manifest(root / "night2", previous={"run_id": "night2", "root": "/nowhere"})


def _unnamed(root: Path) -> None:
    rewrite_manifest(root / "night1", previous=None)


def _bundle(root: Path) -> None:
    rewrite_manifest(root / "base", bundle={"name": "tiny", "digest": "e" * 64})


def _settings(root: Path) -> None:
    rewrite_manifest(root / "base", settings_digest="e" * 64)


def _replaced(root: Path) -> None:
    shutil.rmtree(root / "base")
    make_run(root, "base", [{"ids": ["a", "b", "z"], "vectors": VECTORS[:3]}], latest=False)


def _renamed(root: Path) -> None:
    rewrite_manifest(root / "base", run_id="other")


def _columns(root: Path) -> None:
    shutil.rmtree(root / "base")
    shard = {"ids": ["a", "b", "c"], "vectors": VECTORS[:3], "topic": ["x", "y", "z"]}
    make_run(root, "base", [shard], latest=False)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_missing, "night1 holds only what changed since the previous run, base, which does not exist"),
        (_circle, "base and the runs before it name each other in a circle"),
        (_own, "night2 and the runs before it name each other in a circle"),
        (_unnamed, "night1 holds only changes, but names no previous run"),
        (_bundle, "base, which completes the run night2, was made with another bundle"),
        (_settings, "base, which completes the run night2, was made with another settings"),
        (_replaced, "base holds another manifest .* was replaced or edited"),
        (_renamed, "base holds another manifest .run other"),
        (_columns, "The columns of .*base and of the changes in .*night2 differ.*topic"),
    ],
)
def test_a_broken_chain_is_an_error_that_names_the_run(
    damage: Any, message: str, changes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for run_id, before in (("night1", "base"), ("night2", "night1")) if damage is not _replaced else ():
        # As older releases wrote it, so that others than the digest have to notice.
        rewrite_manifest(changes.parent / run_id, previous={"run_id": before, "root": "/nowhere"})
    damage(changes.parent)
    with pytest.raises(UsageError, match=message):
        beam_jobs.open_run(changes)
    assert runs([str(changes), "compact"]) == 2
    assert "--only_this_run" in capsys.readouterr().err
    assert beam_jobs.open_run(changes, only_this_run=True).count_rows() == 1


def test_damaged_changes_are_not_trusted(changes: Path) -> None:
    (path,) = (changes.parent / "night1" / "changes").iterdir()
    table = pq.read_table(path)
    pq.write_table(table.slice(1), path)  # b would come back as it was
    for read in (lambda: beam_jobs.open_run(changes), lambda: make_page(find_collection(str(changes)))):
        with pytest.raises(JobError, match=r"night1/changes.* should have the sha256"):
            read()


NIGHTS = st.lists(
    st.dictionaries(st.sampled_from("abcdefg"), st.none() | st.integers(0, 4), max_size=5), max_size=4
)


@settings(max_examples=12, deadline=None)
@given(nights=NIGHTS)
def test_any_chain_has_the_rows_of_its_last_night(nights: Sequence[Night]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root, known = Path(folder), {"a": 0, "b": 1, "c": 2}
        last = make_run(root, "base", [{"ids": list("abc"), "vectors": VECTORS[:3]}])
        for number, night in enumerate(nights):
            some = {name: vector for name, vector in night.items() if vector is not None or name in known}
            last = make_night(root, f"night{number}", last.name, known, some)
        run = find_collection(str(last))
        assert vectors_of(beam_jobs.open_run(last).to_table()) == known
        found = nearest(run, VECTORS, 9, column="embedding")
        assert {n.doc_id: at for at, own in enumerate(found) for n in own if n.similarity > 0.5} == known
        sample = sample_rows(run, with_text=False)
        assert sorted([] if sample is None else sample.names) == sorted(known)


def test_a_run_of_changes_records_the_manifest_that_it_continues(changes: Path) -> None:
    data = (changes.parent / "night1" / "manifest.json").read_bytes()
    entry = RunManifest.from_bytes((changes / "manifest.json").read_bytes(), "").previous
    assert entry == PreviousEntry(
        run_id="night1", root=str(changes.parent / "night1"), sha256=hashlib.sha256(data).hexdigest()
    )
