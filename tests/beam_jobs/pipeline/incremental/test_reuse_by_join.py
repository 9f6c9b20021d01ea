"""Taking rows over where workers share no disk: the same rows, counts and changes as through an index."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_jobs.base.records import Document
from beam_jobs.errors import JobError
from beam_jobs.job.console.console import TextConsole
from beam_jobs.job.flags.beam import pipeline_options
from beam_jobs.job.flags.parsers import embed_parser
from beam_jobs.job.plan import plan_job
from beam_jobs.job.run import run_plan
from beam_jobs.pipeline.incremental.changes_by_join import _change_of, _Gone, _New, _Row, _valid_digests
from beam_jobs.pipeline.incremental.reuse_by_join import _SplitDoFn
from tests.beam_jobs.pipeline.incremental.test_changes import (
    CHANGES,
    LAST,
    NEXT,
    applied,
    changes_of,
    counts,
    state_of,
)
from tests.beam_jobs.pipeline.incremental.test_reuse import damage
from tests.support.examples import examples
from tests.support.models.tiny import FAILING_WORD
from tests.support.runs.jobs import Run, run_job, vectors_of, write_jsonl


def joined(tmp_path: Path, bundle: Path, pairs: Iterable[tuple[str, str]], run_id: str, *flags: Any) -> Run:
    """Runs a job as it is planned for remote workers, on the in-process runner."""
    source = write_jsonl(tmp_path / f"{run_id}.jsonl", ({"id": key, "text": text} for key, text in pairs))
    argv = ["--bundle", bundle, "--output", tmp_path / "out", "--run_id", run_id, "--input", source]
    argv += ["--id_column", "id", "--keep_text", *flags]
    parsed = embed_parser().parse_args(list(map(str, argv)))
    options = pipeline_options("DirectRunner", [], [])
    plan = plan_job(parsed, options, in_process=False)
    assert plan.reuse is None or plan.reuse.by_join
    manifest = run_plan(plan, options, TextConsole(io.StringIO()), in_process=True)
    assert manifest is not None
    assert manifest.failure is None
    return Run(0, tmp_path / "out" / run_id, "", "")


@pytest.mark.parametrize("emit", [pytest.param("changes", marks=pytest.mark.slow), "all"])
def test_added_changed_moved_and_removed_documents(emit: str, tmp_path: Path, tiny_bundle: Path) -> None:
    first = joined(tmp_path, tiny_bundle, LAST.items(), "first")
    second = joined(tmp_path, tiny_bundle, NEXT.items(), "second", "--previous", "latest", "--emit", emit)
    assert changes_of(second) == CHANGES
    assert applied(LAST, second) == NEXT
    assert counts(second) == ((20, 2, 18, 0, 0) if emit == "all" else (20, 2, 1, 17, 0))
    assert set(state_of(second)) == (set(NEXT) if emit == "all" else {"3", "moved", "new"})
    np.testing.assert_array_equal(second.vectors["moved"], first.vectors["5"])


@pytest.mark.slow
def test_a_chain_of_changes_and_a_complete_run_at_its_end(tmp_path: Path, tiny_bundle: Path) -> None:
    nightly = ["--previous", "latest", "--emit", "changes"]
    first = joined(tmp_path, tiny_bundle, LAST.items(), "1", *nightly)
    assert changes_of(first) == dict.fromkeys(LAST, "added")
    joined(tmp_path, tiny_bundle, NEXT.items(), "2", *nightly)
    back = NEXT | {"3": LAST["3"], "5": LAST["5"]}
    third = joined(tmp_path, tiny_bundle, back.items(), "3", *nightly)
    assert changes_of(third) == {"3": "changed", "5": "added"}
    assert counts(third) == (21, 0, 2, 19, 0)
    whole = joined(tmp_path, tiny_bundle, back.items(), "4", "--previous", "latest")
    assert (counts(whole), changes_of(whole), state_of(whole)) == ((21, 0, 21, 0, 0), {}, back)


def test_words_dead_letters_and_repeated_ids(tmp_path: Path, tiny_bundle: Path) -> None:
    old = [("a", "a cat sat"), ("a", "a dog"), ("b", f"a {FAILING_WORD}"), ("c", "the mat"), ("c", "the mat")]
    new = [("a", "a dog"), ("a", "a cat sat"), ("b", f"a {FAILING_WORD}"), ("c", "home"), ("d", "the mat")]
    flags = ["--rows", "word", "--max_dead_fraction", 0.5]
    joined(tmp_path, tiny_bundle, old, "first", *flags)
    second = joined(tmp_path, tiny_bundle, new, "second", *flags, "--previous", "latest")
    assert counts(second) == (5, 1, 3, 0, 1)
    assert changes_of(second) == {"c": "changed", "d": "added"}
    source = write_jsonl(tmp_path / "whole.jsonl", ({"id": key, "text": text} for key, text in new))
    argv = ["--input", source, "--id_column", "id", "--keep_text", *flags]
    whole = run_job(tmp_path / "out", tiny_bundle, *argv, run_id="whole")
    keys = [(name, "ascending") for name in ("doc_id", "text_sha256", "word_index")]
    tables = [done.rows.drop_columns("source").sort_by(keys) for done in (second, whole)]
    assert tables[0].drop_columns("embedding").equals(tables[1].drop_columns("embedding"))
    np.testing.assert_allclose(vectors_of(tables[0]), vectors_of(tables[1]), atol=1e-5)


class Lazy:
    """Values as a runner gives them: to be gone through again, not to be held."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __iter__(self) -> Iterator[Any]:
        for at in range(self.number):
            yield Document(str(at), "here", "a cat")
        yield ("old.parquet", 1, 7, 2)
        yield ("old.parquet", 0, 3, 2)


def test_a_text_with_a_million_documents_streams_through() -> None:
    number = 0
    for output in _SplitDoFn().process((b"digest", Lazy(1_000_000))):
        assert isinstance(output, beam.pvalue.TaggedOutput)
        assert output.value[0] == ("old.parquet", 0)
        number += 1
        if number == 1000:  # the others have not been looked at for output
            break
    assert number == 1000


@settings(max_examples=examples(200), deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(0, 3), st.sampled_from([b"x", b"y"]))),
    gone=st.lists(st.integers(0, 3)),
    new=st.lists(st.sampled_from([b"x", b"y"])),
)
def test_what_a_chain_of_runs_says_of_an_id(
    rows: Sequence[tuple[int, bytes]], gone: Sequence[int], new: Sequence[bytes]
) -> None:
    """The newest run that changed or removed an id hides what is older."""
    entries = [*(_Row(*row) for row in rows), *map(_Gone, gone), *map(_New, new)]
    before: set[bytes] = set()
    for age in (3, 2, 1, 0):
        before = (set() if age in gone else before) | {digest for at, digest in rows if at == age}
    assert _valid_digests(entries) == before
    told = dict(_change_of("a", entries))
    after = set(new)
    assert told.get("a") == (
        None if before == after else "added" if not before else "changed" if after else "removed"
    )


@pytest.mark.parametrize("emit", [pytest.param("all", marks=pytest.mark.slow), "changes"])
def test_rows_of_a_damaged_file_are_not_copied(emit: str, tmp_path: Path, tiny_bundle: Path) -> None:
    damage(joined(tmp_path, tiny_bundle, LAST.items(), "first"))
    with pytest.raises(JobError, match="should have the sha256"):
        joined(tmp_path, tiny_bundle, NEXT.items(), "second", "--previous", "latest", "--emit", emit)
    assert not (tmp_path / "out" / "second" / "manifest.json").exists()
