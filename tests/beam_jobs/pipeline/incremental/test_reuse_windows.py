"""Editing a long document: its windows that stay are copied, the rest is computed, as if from the start."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_jobs.pipeline.incremental.earlier_windows import same_windows
from tests.beam_jobs.pipeline.incremental.test_reuse_by_join import joined
from tests.repository.test_docs_examples import examples
from tests.support.examples import examples as num_examples
from tests.support.models.tiny import FAILING_WORD
from tests.support.runs.jobs import Run, run_job, vectors_of, write_jsonl

WORDS = ("the", "cat", "dog", "mat", "sat", "on", "home", "and", "ran", "a", "unbelievably", "long")
WINDOWS = ("--rows", "window", "--windows_at", "sentence")
Pairs = Sequence[tuple[str, str]]


def paragraphs(seed: int, number: int) -> list[str]:
    """Of one to six sentences of known words."""
    rng = random.Random(seed)

    def sentence() -> str:
        return " ".join(rng.choices(WORDS, k=rng.randint(3, 12))).capitalize() + "."

    return [" ".join(sentence() for _ in range(rng.randint(1, 6))) for _ in range(number)]


def run(tmp_path: Path, bundle: Path, pairs: Pairs, run_id: str, *flags: Any) -> Run:
    source = write_jsonl(tmp_path / f"{run_id}.jsonl", ({"id": key, "text": text} for key, text in pairs))
    own = ["--input", source, "--id_column", "id", "--keep_text", *WINDOWS]
    done = run_job(tmp_path / "out", bundle, *own, *flags, run_id=run_id)
    assert done.exit_code == 0, done.stderr
    return done


def by_join(tmp_path: Path, bundle: Path, pairs: Pairs, run_id: str, *flags: Any) -> Run:
    return joined(tmp_path, bundle, pairs, run_id, *WINDOWS, *flags)


def in_order(done: Run) -> pa.Table:
    return done.rows.drop_columns("source").sort_by([("doc_id", "ascending"), ("window_index", "ascending")])


def assert_equal_rows(found: Run, expected: Run, tolerance: float = 1e-6) -> None:
    """Everything but the vectors is equal; these are up to the rounding of another batch."""
    ours, theirs = in_order(found), in_order(expected)
    assert ours.drop_columns("embedding").equals(theirs.drop_columns("embedding"))
    np.testing.assert_allclose(vectors_of(ours), vectors_of(theirs), atol=tolerance, rtol=0)


def window_changes(done: Run) -> list[dict[str, Any]]:
    tables = [pq.read_table(path) for path in done.files("window_changes")]
    rows: list[dict[str, Any]] = pa.concat_tables(tables).to_pylist() if tables else []
    return rows


def assert_changes_lead_from(first: Run, second: Run, doc_id: str) -> None:
    """Applied to the earlier windows of a document, the changes give those it has now."""

    def windows(done: Run) -> dict[int, tuple[str, int, int]]:
        return {
            row["window_index"]: (row["window_sha256"], row["char_start"], row["char_end"])
            for row in done.rows.to_pylist()
            if row["doc_id"] == doc_id
        }

    before, after = windows(first), windows(second)
    listed = [row for row in window_changes(second) if row["doc_id"] == doc_id]
    stay = {at: w for at, w in before.items() if at not in {row["previous_window_index"] for row in listed}}
    fresh = {row["window_index"]: after[row["window_index"]] for row in listed if row["change"] != "removed"}
    assert stay | fresh == after
    assert not stay.keys() & fresh.keys()
    for row in listed:
        if row["change"] == "moved":
            assert before[row["previous_window_index"]][0] == after[row["window_index"]][0]


def apply_example(first: Run, second: Run) -> None:
    """Runs the example of the page on a table of the earlier rows, which then has the new ones."""
    columns = "doc_id, window_index, char_start, char_end, embedding"
    database = duckdb.connect()
    database.execute(f"CREATE TABLE vectors AS SELECT {columns} FROM '{first.root}/embeddings/*.parquet'")
    code = examples("how-to/incremental.md")["Windows of long documents"]
    exec(code, {"RUN": str(second.root), "database": database})
    new = f"SELECT {columns} FROM '{second.root}/embeddings/*.parquet'"
    for one, other in (("FROM vectors", new), (new, "FROM vectors")):
        assert database.execute(f"{one} EXCEPT ALL {other}").fetchall() == []


@settings(max_examples=num_examples(100), deadline=None)
@given(
    before=st.lists(st.sampled_from("abc"), max_size=9), after=st.lists(st.sampled_from("abc"), max_size=9)
)
def test_repeated_windows_are_told_apart_by_their_index(before: list[str], after: list[str]) -> None:
    same = same_windows(before, after)
    found = [at for at in same if at is not None]
    assert len(found) == len(set(found)) == (Counter(before) & Counter(after)).total()
    assert all(before[at] == after[now] for now, at in enumerate(same) if at is not None)
    stay = [at for at, (one, other) in enumerate(zip(before, after, strict=False)) if one == other]
    assert all(same[at] == at for at in stay)


def test_an_edit_among_equal_windows_moves_none_of_them(tmp_path: Path, tiny_bundle: Path) -> None:
    """Of ten equal chapters one is edited: its windows alone are listed."""
    chapter = "\n\n".join(paragraphs(7, 6))
    chapters = [f"{chapter}\n\nThe dog sat on the mat home."] * 10
    first = run(tmp_path, tiny_bundle, [("book", "\n\n".join(chapters))], "first")
    chapters[4] = chapters[4].replace("The dog sat on the mat home.", "The cat sat on the mat home.")
    texts = [("book", "\n\n".join(chapters))]
    second = run(tmp_path, tiny_bundle, texts, "second", "--previous", "first")
    assert len(set(first.column("window_sha256"))) < len(first.rows)
    assert_equal_rows(second, run(tmp_path, tiny_bundle, texts, "whole"))
    assert_changes_lead_from(first, second, "book")
    assert {row["change"] for row in window_changes(second)} == {"added", "removed"}
    assert len(window_changes(second)) <= 4
    apply_example(first, second)


@pytest.mark.parametrize("make", [run, pytest.param(by_join, id="by_join", marks=pytest.mark.slow)])
def test_windows_that_stay_are_copied(make: Callable[..., Run], tmp_path: Path, tiny_bundle: Path) -> None:
    book, other = paragraphs(0, 80), paragraphs(1, 9)
    first = make(tmp_path, tiny_bundle, [("book", "\n\n".join(book)), ("other", "\n\n".join(other))], "first")
    book[40] = book[40].replace("the", "a", 1) + " The dog ran home."
    new = [("new", "\n\n".join(paragraphs(2, 9))), ("other", "\n\n".join(other)), ("book", "\n\n".join(book))]
    second = make(tmp_path, tiny_bundle, new, "second", "--previous", "first")
    whole = make(tmp_path, tiny_bundle, new, "whole")
    assert_equal_rows(second, whole)
    counts, of_whole = second.manifest.counts, whole.manifest.counts
    num_rows = {key: second.column("doc_id").count(key) for key, _ in new}
    assert (counts.num_written, counts.num_reused) == (2, 1)
    fresh = counts.num_encoded_windows - num_rows["new"]
    assert 1 <= fresh <= 8
    assert counts.num_reused_windows == num_rows["book"] - fresh > 20
    assert of_whole.num_encoded_windows == sum(num_rows.values())
    assert counts.num_tokens < of_whole.num_tokens // 3
    kinds = [row["change"] for row in window_changes(second)]
    assert {row["doc_id"] for row in window_changes(second)} == {"book"}
    assert counts.window_changes == {kind: kinds.count(kind) for kind in sorted(set(kinds))}
    assert counts.window_changes["added"] == fresh
    assert counts.changes == {"added": 1, "changed": 1}
    assert_changes_lead_from(first, second, "book")
    # Those that were copied are the very ones.
    same = {row["window_sha256"]: row["embedding"] for row in first.rows.to_pylist()}
    again = [row for row in second.rows.to_pylist() if row["window_sha256"] in same]
    assert all(row["embedding"] == same[row["window_sha256"]] for row in again)
    apply_example(first, second)
    if make is run:
        total = num_rows["new"] + num_rows["book"]
        embedded = (
            f"windows    {total} = {counts.num_encoded_windows} embedded + {counts.num_reused_windows} reused"
        )
        assert embedded in second.stdout


@pytest.mark.slow
@pytest.mark.parametrize("make", [run, pytest.param(by_join, id="by_join")])
def test_only_changes_of_chains_and_dead_letters(
    make: Callable[..., Run], tmp_path: Path, tiny_bundle: Path
) -> None:
    """Earlier rows are those of the newest run that wrote the document; one that fails changes no window."""
    book, bad = paragraphs(3, 30), paragraphs(4, 30)
    texts = [("bad", "\n\n".join(bad)), ("book", "\n\n".join(book))]
    make(tmp_path, tiny_bundle, texts, "first")
    book[3] = "A long mat."
    texts[1] = ("book", "\n\n".join(book))
    changes = ("--previous", "latest", "--emit", "changes", "--max_dead_fraction", 0.5)
    second = make(tmp_path, tiny_bundle, texts, "second", *changes)
    book[25] = "Home and home."
    texts = [("bad", "\n\n".join([*bad, FAILING_WORD])), ("book", "\n\n".join(book))]
    third = make(tmp_path, tiny_bundle, texts, "third", *changes)
    counts = third.manifest.counts
    assert third.reasons == {"bad": "model_error"}
    assert set(third.column("doc_id")) == {"book"}
    assert 1 <= counts.num_encoded_windows <= 6
    assert {row["doc_id"] for row in window_changes(third)} == {"book"}
    assert_changes_lead_from(second, third, "book")
    whole = make(tmp_path, tiny_bundle, texts, "whole", "--max_dead_fraction", 0.5)
    assert_equal_rows(third, whole)


@pytest.mark.slow
@pytest.mark.parametrize(("overlap", "dtype"), [(0, "float32"), (1, "float16")])
def test_ten_edits_of_three_thousand_windows(
    overlap: int, dtype: str, tmp_path: Path, tiny_bundle: Path
) -> None:
    book = paragraphs(5, 5200)
    flags = ("--window_overlap", overlap, "--vector_dtype", dtype)
    first = run(tmp_path, tiny_bundle, [("book", "\n\n".join(book))], "first", *flags)
    assert len(first.rows) > 3000
    fresh = paragraphs(6, 20)
    book[0:0] = fresh[:1]  # the beginning
    del book[700]
    book[1300] = fresh[1]
    book[1900] = book[1900] + " " + fresh[2]
    book[2600] = book[2600].replace(" ", ' "', 1)
    book[3200:3200] = fresh[3:5]
    book[3700] = book[3700].lower() + " and ran home"
    del book[4300:4302]
    book[5000] = fresh[5]
    book.append(fresh[6])  # the end
    texts = [("book", "\n\n".join(book))]
    second = run(tmp_path, tiny_bundle, texts, "second", "--previous", "latest", *flags)
    whole = run(tmp_path, tiny_bundle, texts, "whole", *flags)
    assert_equal_rows(second, whole, 1e-6 if dtype == "float32" else 5e-4)
    assert 10 <= second.manifest.counts.num_encoded_windows <= 40
    assert second.manifest.counts.num_reused_windows > 2960
    assert_changes_lead_from(first, second, "book")
