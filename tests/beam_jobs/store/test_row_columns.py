"""Runs from before a column of all rows was added are read, completed, reused and copied with nulls in it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from beam_jobs.embed import main
from beam_jobs.errors import UsageError
from beam_jobs.store.batches import read_batches
from beam_jobs.store.chain import find_collection
from beam_jobs.store.dataset import open_run
from beam_jobs.store.row_columns import ADDED, FIRST_COLUMNS, has_added, lacking, with_added, without_added
from model_bundle import ModelBundle
from tests.beam_jobs.runs.test_runs import runs
from tests.conftest import DATA_DIR
from tests.support.runs.jobs import run_job
from tests.support.runs.made_runs import make_changes, make_run

OLD = DATA_DIR / "before_layout" / "run"
VECTORS = np.eye(4, dtype=np.float32)


def unknown_of(path: Path) -> dict[str, int | None]:
    table = open_run(path).to_table()
    return dict(zip(table["doc_id"].to_pylist(), table[ADDED.name].to_pylist(), strict=True))


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """An older run of three documents, and today's changes of one of them."""
    make_run(tmp_path, "first", [{"ids": ["a", "b", "c"], "vectors": VECTORS[:3], "older": True}])
    shard = {"ids": ["b"], "vectors": VECTORS[3:], "num_unknown_tokens": [2]}
    make_changes(tmp_path, "second", "first", [shard], {"b": "changed"}, num_documents=3)
    return tmp_path


def test_a_chain_of_an_older_run_and_new_changes_is_one_collection(mixed: Path) -> None:
    assert not has_added(open_run(mixed / "first").schema)
    assert unknown_of(mixed / "second") == {"a": None, "b": 2, "c": None}
    some = list(read_batches(find_collection(str(mixed)), ["doc_id", ADDED.name]))
    assert [batch.rows.column(ADDED.name).to_pylist() for batch in some] == [[None], [None], [2]]
    assert runs(mixed, "validate")[0] == 0


def test_it_is_copied_into_one_run(mixed: Path) -> None:
    code, _, stderr = runs(mixed, "compact", "--run_id", "copy")
    assert code == 0, stderr
    assert unknown_of(mixed / "copy") == {"a": None, "b": 2, "c": None}
    assert runs(mixed, "validate")[0] == 0


@pytest.mark.parametrize("emit", ["all", "changes"])
def test_rows_of_an_older_run_are_reused(tmp_path: Path, emit: str) -> None:
    shutil.copytree(OLD, tmp_path / "out" / "run")
    # As if made with the bert-mini of today: rows of another bundle are not reused.
    manifest = tmp_path / "out" / "run" / "manifest.json"
    stored = json.loads(manifest.read_text(encoding="utf-8"))
    stored["bundle"]["digest"] = ModelBundle.open("bert-mini").digest
    manifest.write_text(json.dumps(stored), encoding="utf-8")
    texts = tmp_path / "two.txt"
    texts.write_text("A cat sat on the mat.\nข้าว run home.\n", encoding="utf-8")
    flags = ("--input", texts, "--previous", "run", "--emit", emit)
    run = run_job(tmp_path / "out", Path("bert-mini"), *flags, run_id="new")
    assert run.exit_code == 0, run.stderr
    counts = run.manifest.counts
    assert (counts.num_written, counts.num_reused + counts.num_unchanged) == (1, 1)
    found = unknown_of(tmp_path / "out" / "new")
    assert sorted(found.values(), key=str) == [1, None]


def test_a_kept_column_of_that_name_is_not_mistaken_for_it(tmp_path: Path) -> None:
    """Older runs could have it; today it is refused before work."""
    old = without_added(pa.schema(FIRST_COLUMNS)).append(pa.field("embedding", pa.list_(pa.float32())))
    kept = old.append(pa.field(ADDED.name, pa.int32()))
    assert not has_added(kept)
    assert without_added(kept) == kept
    assert lacking(kept, ["embedding", ADDED.name]) == [ADDED.name]
    assert lacking(old, ["embedding", ADDED.name, "label"]) == ["label"]
    assert lacking(with_added(old), ["embedding", ADDED.name]) == []
    shard = {"ids": ["a"], "vectors": VECTORS[:1]}
    path = tmp_path / "in.csv"
    path.write_text("text,num_unknown_tokens\na,1\n")
    flags = ["--input", str(path), "--keep_columns", ADDED.name, "--output", str(tmp_path)]
    assert main(flags) == 2
    make_run(tmp_path, "first", [shard | {"older": True, "topic": ["x"]}])
    make_changes(tmp_path, "second", "first", [shard], {"a": "changed"}, num_documents=1)
    with pytest.raises(UsageError, match="their rows are not one collection: num_unknown_tokens, topic"):
        open_run(tmp_path / "second")
