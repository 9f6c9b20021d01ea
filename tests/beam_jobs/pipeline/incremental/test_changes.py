"""What changed since an earlier run: who applies it has the rows of a complete new run."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping, Sequence
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_jobs.base.records import text_sha256
from beam_jobs.errors import JobError
from beam_jobs.pipeline.incremental.changes_by_index import find_changes
from beam_jobs.pipeline.incremental.digest_index import from_hex
from beam_jobs.pipeline.incremental.previous_documents import (
    PreviousDocuments,
    PreviousFiles,
    index_documents,
)
from beam_jobs.store.dataset import open_run
from tests.support.examples import examples
from tests.support.models.tiny import FAILING_WORD
from tests.support.runs.jobs import Run, run_job, write_jsonl

State = Mapping[str, str]
LAST = {str(number): f"the cat number {number} sat on a mat" for number in range(20)}
# One changed, one moved to another id, one gone, one new.
NEXT = {key: text for key, text in LAST.items() if key not in ("5", "9")}
NEXT |= {"3": "another cat", "moved": LAST["5"], "new": "a new dog"}
CHANGES = {"3": "changed", "5": "removed", "9": "removed", "moved": "added", "new": "added"}


def run(
    tmp_path: Path, bundle: Path, state: State | Sequence[tuple[str, str]], run_id: str, *flags: Any
) -> Run:
    pairs = state.items() if isinstance(state, Mapping) else state
    source = write_jsonl(tmp_path / f"{run_id}.jsonl", ({"id": key, "text": text} for key, text in pairs))
    argv = ["--input", source, "--id_column", "id", "--keep_text", *flags]
    return run_job(tmp_path / "out", bundle, *argv, run_id=run_id)


def changes_of(done: Run) -> dict[str, str]:
    tables = [pq.read_table(path) for path in done.files("changes")]
    rows = [row for table in tables for row in table.to_pylist()]
    found = {row["doc_id"]: row["change"] for row in rows}
    assert len(found) == len(rows)
    return found


def state_of(done: Run) -> dict[str, str]:
    return dict(zip(done.column("doc_id"), done.column("text"), strict=True))


def applied(state: State, done: Run) -> dict[str, str]:
    """Does what a consumer does: drops what is gone or changed, and takes the rows in."""
    changes = changes_of(done)
    rows = {key: text for key, text in state_of(done).items() if key in changes}
    return {key: text for key, text in state.items() if key not in changes} | rows


def counts(done: Run) -> tuple[int, int, int, int, int]:
    found = done.manifest.counts
    return found.num_read, found.num_written, found.num_reused, found.num_unchanged, found.num_dead


@pytest.mark.parametrize("emit", [pytest.param("all", marks=pytest.mark.slow), "changes"])
def test_added_changed_moved_and_removed_documents(emit: str, tmp_path: Path, tiny_bundle: Path) -> None:
    first = run(tmp_path, tiny_bundle, LAST, "first")
    assert not first.files("changes")
    second = run(tmp_path, tiny_bundle, NEXT, "second", "--previous", "latest", "--emit", emit)
    assert second.exit_code == 0, second.stderr
    assert changes_of(second) == CHANGES
    assert second.manifest.counts.changes == {"added": 2, "changed": 1, "removed": 2}
    assert "2 added, 1 changed, 2 removed" in second.stdout
    assert applied(LAST, second) == NEXT
    if emit == "all":
        assert counts(second) == (20, 2, 18, 0, 0)
        assert state_of(second) == NEXT
    else:
        assert counts(second) == (20, 2, 1, 17, 0)
        assert "20 read = 2 written + 1 reused + 17 unchanged + 0 dead" in second.stdout
        assert set(state_of(second)) == {"3", "moved", "new"}
    assert second.manifest.emit == emit
    np.testing.assert_array_equal(second.vectors["moved"], first.vectors["5"])


@pytest.mark.slow
def test_a_chain_of_changes_is_as_good_as_a_run(tmp_path: Path, tiny_bundle: Path) -> None:
    nightly = ["--previous", "latest", "--emit", "changes"]
    first = run(tmp_path, tiny_bundle, LAST, "1", *nightly)
    assert first.manifest.emit == "all"  # there was nothing before
    assert changes_of(first) == dict.fromkeys(LAST, "added")
    second = run(tmp_path, tiny_bundle, NEXT, "2", *nightly)
    back = NEXT | {"3": LAST["3"], "5": LAST["5"]}
    del back["new"]
    third = run(tmp_path, tiny_bundle, back, "3", *nightly)
    assert third.exit_code == 0, third.stderr
    assert changes_of(third) == {"3": "changed", "5": "added", "new": "removed"}
    # The texts are old ones: their vectors are in the first run.
    assert counts(third) == (20, 0, 2, 18, 0)
    assert applied(applied(LAST, second), third) == back
    whole = run(tmp_path, tiny_bundle, back, "4", "--previous", "latest")
    assert counts(whole) == (20, 0, 20, 0, 0)
    assert changes_of(whole) == {}
    assert state_of(whole) == back
    columns = ["doc_id", "text_sha256", "embedding"]  # with the runs before, changes are the whole run
    chained, complete = (open_run(r.root).to_table(columns).sort_by("doc_id") for r in (third, whole))
    assert chained.equals(complete)
    (tmp_path / "out" / "2" / "manifest.json").unlink()
    broken = run(tmp_path, tiny_bundle, back, "5", "--previous", "3")
    assert broken.exit_code == 2
    assert "the previous run, 2, which does not exist" in broken.stderr


def test_the_way_to_apply_changes_that_is_documented(tmp_path: Path, tiny_bundle: Path) -> None:
    duckdb = import_module("duckdb")
    page = (Path(__file__).parents[4] / "docs" / "how-to" / "incremental.md").read_text(encoding="utf-8")
    first = run(tmp_path, tiny_bundle, LAST, "first")
    database = duckdb.connect()
    database.execute(
        f"CREATE TABLE vectors AS SELECT doc_id, embedding FROM '{first.root}/embeddings/*.parquet'"
    )
    second = run(tmp_path, tiny_bundle, NEXT, "second", "--previous", "latest", "--emit", "changes")
    code = re.findall(r"```python\n(.*?)```", page, re.DOTALL)[0]
    exec(compile(code, "incremental.md", "exec"), {"RUN": str(second.root), "database": database})
    whole = run(tmp_path, tiny_bundle, NEXT, "whole")
    found = dict(database.execute("SELECT doc_id, embedding FROM vectors").fetchall())
    assert found.keys() == whole.vectors.keys()
    for key, vector in whole.vectors.items():
        np.testing.assert_allclose(found[key], vector, atol=1e-5)


def test_what_has_no_row_any_more_is_removed(tmp_path: Path, tiny_bundle: Path) -> None:
    dead = {"a": "a cat", "b": f"a {FAILING_WORD}", "c": "a dog"}
    first = run(tmp_path, tiny_bundle, dead, "first", "--max_dead_fraction", 0.5)
    again = dead | {"a": f"{FAILING_WORD} cat"}
    flags = ["--previous", first.root, "--emit", "changes", "--max_dead_fraction", 0.7]
    second = run(tmp_path, tiny_bundle, again, "second", *flags)
    assert second.exit_code == 0, second.stderr
    assert changes_of(second) == {"a": "removed"}
    assert counts(second) == (3, 0, 0, 1, 2)


def test_with_other_settings_every_document_has_changed(tmp_path: Path, tiny_bundle: Path) -> None:
    run(tmp_path, tiny_bundle, LAST, "first")
    flags = ["--previous", "latest", "--pooling", "max"]
    second = run(tmp_path, tiny_bundle, NEXT, "second", *flags)
    assert changes_of(second) == dict.fromkeys(NEXT, "changed") | CHANGES
    refused = run(
        tmp_path, tiny_bundle, NEXT, "third", "--previous", "first", "--pooling", "max", "--emit", "changes"
    )
    assert refused.exit_code == 2
    assert "--emit changes: no row of" in refused.stderr


def test_ids_that_are_not_unique(tmp_path: Path, tiny_bundle: Path) -> None:
    """A complete run loses no row; changes, which are applied by id, are refused."""
    twice = [("a", "a cat"), ("a", "a dog"), ("b", "a mat")]
    first = run(tmp_path, tiny_bundle, twice, "first")
    second = run(tmp_path, tiny_bundle, [*twice, ("b", "a cat")], "second", "--previous", "first")
    assert second.exit_code == 0, second.stderr
    assert counts(second) == (4, 0, 4, 0, 0)
    assert changes_of(second) == {"b": "changed"}
    flags = ["--emit", "changes", "--previous"]
    old = run(tmp_path, tiny_bundle, twice, "third", *flags, first.root)
    assert old.exit_code == 1
    assert "not unique (1 repetition)" in old.stderr
    once = run(tmp_path, tiny_bundle, twice[1:], "once")
    new = run(tmp_path, tiny_bundle, [*twice, ("b", "a cat")], "fourth", *flags, once.root)
    assert new.exit_code == 1
    assert "several documents have the id" in new.stderr
    assert not new.is_finished


def test_changes_are_told_of_documents_and_not_of_words(tmp_path: Path, tiny_bundle: Path) -> None:
    run(tmp_path, tiny_bundle, LAST, "first", "--rows", "word")
    flags = ["--rows", "word", "--previous", "latest", "--emit", "changes"]
    second = run(tmp_path, tiny_bundle, NEXT, "second", *flags)
    assert second.exit_code == 0, second.stderr
    assert changes_of(second) == CHANGES
    assert set(second.column("doc_id")) == {"3", "moved", "new"}


def test_changes_need_something_to_be_relative_to(tmp_path: Path, tiny_bundle: Path) -> None:
    done = run(tmp_path, tiny_bundle, LAST, "first", "--emit", "changes")
    assert done.exit_code == 2
    assert "--emit changes needs --previous" in done.stderr


def files(
    folder: Path, name: str, pairs: Sequence[tuple[str, str]], changes: Mapping[str, str]
) -> PreviousFiles:
    """Writes what a run has of its documents."""
    rows, told = folder / f"{name}.parquet", folder / f"{name}-changes.parquet"
    ids, texts = [key for key, _ in pairs], [text_sha256(text) for _, text in pairs]
    table = pa.table({"doc_id": pa.array(ids, pa.string()), "text_sha256": pa.array(texts, pa.string())})
    pq.write_table(table, rows, row_group_size=3)
    columns = {"doc_id": list(changes), "change": list(changes.values())}
    pq.write_table(
        pa.table(columns, schema=pa.schema([("doc_id", pa.string()), ("change", pa.string())])), told
    )
    return PreviousFiles((str(rows),) if pairs else (), (str(told),))


def difference(old: Sequence[tuple[str, str]], new: Sequence[tuple[str, str]]) -> dict[str, str]:
    """The definition, in sets."""
    before: dict[str, set[str]] = {}
    after: dict[str, set[str]] = {}
    for state, pairs in ((before, old), (after, new)):
        for key, text in pairs:
            state.setdefault(key, set()).add(text)
    told = dict.fromkeys(after.keys() - before.keys(), "added")
    told |= dict.fromkeys(before.keys() - after.keys(), "removed")
    return told | {key: "changed" for key in before.keys() & after.keys() if before[key] != after[key]}


def found_changes(known: str, new: PreviousFiles) -> dict[str, str]:
    told: dict[str, str] = {}
    for names, change in find_changes(PreviousDocuments(known), new.row_files):
        assert not told.keys() & set(names)
        told |= dict.fromkeys(names, change)
    return told


PAIRS = st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from("xyz")), max_size=12)


@settings(max_examples=examples(60), deadline=None)
@given(old=PAIRS, new=PAIRS)
def test_changes_are_those_of_the_definition_whatever_is_repeated(
    old: list[tuple[str, str]], new: list[tuple[str, str]]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        before, after = files(root, "old", old, {}), files(root, "new", new, {})
        repeated = index_documents([before], f"{folder}/known", same_settings=True)
        assert repeated == len(old) - len(dict(old))
        assert found_changes(f"{folder}/known", after) == difference(old, new)


@settings(max_examples=examples(40), deadline=None)
@given(
    states=st.lists(
        st.dictionaries(st.sampled_from("abcdef"), st.sampled_from("xyz")), min_size=2, max_size=5
    )
)
def test_a_chain_has_the_documents_of_its_last_state(states: list[dict[str, str]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        chain = [files(root, "0", [*states[0].items()], {})]
        for number, (old, new) in enumerate(pairwise(states[:-1]), 1):
            known = f"{folder}/known-{number}"
            index_documents(chain, known, same_settings=True)
            opened = PreviousDocuments(known)
            texts = b"".join(bytes.fromhex(text_sha256(text)) for text in new.values())
            digests = np.frombuffer(texts, np.uint8).reshape(-1, 32)
            same = opened.skip([*new], digests) if new else np.zeros(0, dtype=bool)
            written = [pair for pair, is_same in zip(new.items(), same, strict=True) if not is_same]
            assert written == [pair for pair in new.items() if pair not in old.items()]
            rows = files(root, f"rows-{number}", written, {})
            told = found_changes(known, rows)
            assert told == difference([*old.items()], [*new.items()])
            chain.insert(0, files(root, str(number), written, told))
        index_documents(chain, f"{folder}/last", same_settings=True)
        last = files(root, "last", [*states[-1].items()], {})
        assert found_changes(f"{folder}/last", last) == difference(
            [*states[-2].items()], [*states[-1].items()]
        )


def test_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"none\.parquet"):
        index_documents(
            [PreviousFiles((str(tmp_path / "none.parquet"),), ())],
            str(tmp_path / "known"),
            same_settings=True,
        )
    assert from_hex(b"", 0).shape == (0, 32)
