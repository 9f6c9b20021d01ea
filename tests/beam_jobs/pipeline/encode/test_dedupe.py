"""Equal texts are computed once, however often they come, and each document still gets its row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from apache_beam.pvalue import TaggedOutput

from beam_jobs.base.records import Document, text_sha256
from beam_jobs.errors import UsageError
from beam_jobs.pipeline.encode import dedupe
from beam_jobs.pipeline.encode.dedupe import DedupingEncodeDoFn, RowCache
from beam_jobs.pipeline.rows.make import schema_of
from beam_jobs.pipeline.settings import EncodeSettings
from tests.support.models.tiny import FAILING_WORD
from tests.support.runs.jobs import Run, run_job, vectors_of, write_texts

TEXTS = [f"the cat number {number % 30} sat on a mat" for number in range(400)]


def run(tmp_path: Path, bundle: Path, texts: Sequence[str], *flags: Any, run_id: str = "run") -> Run:
    source = write_texts(tmp_path / f"{run_id}.jsonl", texts)
    done = run_job(tmp_path / "out", bundle, "--input", source, "--id_column", "id", *flags, run_id=run_id)
    assert done.exit_code == 0, done.stderr
    return done


@pytest.mark.parametrize(
    "flags", [[], ["--rows", "word"], pytest.param(["--buffer_documents", 7], marks=pytest.mark.slow)]
)
def test_the_rows_are_those_of_a_run_that_computes_each(
    flags: list[Any], tmp_path: Path, tiny_bundle: Path
) -> None:
    plain = run(tmp_path, tiny_bundle, TEXTS, *flags, "--keep_text", run_id="plain")
    once = run(tmp_path, tiny_bundle, TEXTS, *flags, "--keep_text", "--dedupe", run_id="once")
    counts = once.manifest.counts
    assert (counts.num_read, counts.num_written, counts.num_repeated) == (400, 400, 370)
    assert counts.num_tokens * 400 < plain.manifest.counts.num_tokens * 32
    keys = [("doc_id", "ascending"), *([("word_index", "ascending")] if "word" in flags else [])]
    tables = [done.rows.drop_columns("source").sort_by(keys) for done in (plain, once)]
    assert tables[0].drop_columns("embedding").equals(tables[1].drop_columns("embedding"))
    np.testing.assert_allclose(vectors_of(tables[0]), vectors_of(tables[1]), atol=1e-5)
    assert "370 documents reused the result of an identical text" in once.stdout


def test_dead_letters_of_equal_texts_are_one_each(tmp_path: Path, tiny_bundle: Path) -> None:
    texts = [" ", f"a {FAILING_WORD}", "a cat", f"a {FAILING_WORD}", " ", "a cat", f"a {FAILING_WORD}"]
    done = run(tmp_path, tiny_bundle, texts, "--dedupe", "--max_dead_fraction", 0.9)
    assert done.reasons == {
        "0": "blank_text",
        "4": "blank_text",
        **dict.fromkeys("136", "model_error"),
    }
    assert sorted(done.column("doc_id")) == ["2", "5"]
    assert done.manifest.counts.num_repeated == 1


def test_models_that_take_numbers_are_refused(tiny_bundle: Path) -> None:
    settings = EncodeSettings.resolve(str(tiny_bundle))
    with pytest.raises(UsageError, match="--dedupe: the model also takes the columns"):
        EncodeSettings(**(vars(settings) | {"numeric_columns": ("age",), "dedupe": True}))


def _process(dofn: Any, documents: Iterator[Document]) -> Iterator[Any]:
    dofn.setup()
    dofn.start_bundle()
    for document in documents:
        yield from dofn.process(document)
    yield from (output.value for output in dofn.finish_bundle())


def test_one_text_very_often_takes_bounded_memory(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits is let go as rows in batches of bounded size, and the text is computed once."""
    monkeypatch.setattr(dedupe, "_MAX_WAITING", 1000)
    settings = EncodeSettings.resolve(str(tiny_bundle), dedupe=True)
    dofn = DedupingEncodeDoFn(settings, schema_of(settings, pa.schema([])), 0, None)
    number, computed, longest = 0, 0, 0
    for output in _process(dofn, (Document(str(at), "here", "a cat") for at in range(100_000))):
        assert not isinstance(output, TaggedOutput)
        number += output.num_rows
        longest = max(longest, output.num_rows)
        computed += int(output.schema.metadata.get(b"num_repeated", b"0") == b"0")
        assert len(dofn._repeats) <= 1000
    assert (number, computed) == (100_000, 1)
    assert longest <= 1000


def test_what_is_kept_is_bounded_and_the_newest() -> None:
    cache = RowCache(10_000)
    for number in range(50):
        digests = [text_sha256(f"{number} {at}") for at in range(10)]
        cache.add(pa.RecordBatch.from_pydict({"text_sha256": digests, "vector": [b"x" * 100] * 10}))
        cache.trim()
    assert 3 <= len(cache._batches) <= 5
    assert sum(batch.nbytes for batch in cache._batches.values()) == cache._num_bytes <= 10_000
    assert text_sha256("49 0") in cache
    assert text_sha256("0 0") not in cache
    ((rows, documents, places),) = cache.find([(Document("a", "here", "49 3"), text_sha256("49 3"))])
    assert rows.column("text_sha256")[int(places[0, 2])].as_py() == text_sha256(documents[0].text)
