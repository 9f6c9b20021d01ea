"""Jobs on long texts: windows as rows and combined, dead letters that say how long, a failed run."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from beam_jobs.job.flags.parsers import embed_parser
from beam_jobs.job.plan import long_texts
from beam_jobs.pipeline.incremental.previous_run import difference
from beam_jobs.pipeline.rows.make import word_in
from beam_jobs.pipeline.settings import EncodeSettings
from beam_jobs.store.manifest import RunManifest
from model_bundle.bundle.bundle import ModelBundle
from model_bundle.errors import SettingsError
from model_bundle.inference.encoder import Encoder
from model_bundle.inference.text_encoder import request_input
from model_bundle.runtime.long_texts import Combine, LongTexts, OnLong
from model_bundle.text.boundaries import WindowsAt
from tests.support.models.tiny import FAILING_WORD
from tests.support.runs.jobs import run_classify, run_job, vectors_of, write_jsonl, write_texts

# Words of one token each; 62 fit into a window, with [CLS] and [SEP]. The vocabulary lacks one of them.
UNKNOWN = "ข้าว"
TEXTS = [
    "the cat sat",
    "the dog " * 31,
    "a mat  and " * 100,
    "home " * 61 + f"{UNKNOWN} {UNKNOWN}",
    "on " * 500,
]
LONG = ["2", "3", "4"]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_texts(tmp_path / "in.jsonl", TEXTS)


def test_windows_as_rows(tiny_bundle: Path, source: Path, tmp_path: Path) -> None:
    flags = [
        "--input",
        source,
        "--id_column",
        "id",
        "--rows",
        "window",
        "--window_overlap",
        10,
        "--keep_text",
    ]
    run = run_job(tmp_path, tiny_bundle, *flags, "--max_shard_bytes", 1, "--buffer_documents", 2)
    assert run.exit_code == 0, run.stderr
    rows = run.rows.to_pylist()
    assert [row["doc_id"] for row in rows] == sorted(
        row["doc_id"] for row in rows
    )  # documents keep their order
    plain = Encoder(tiny_bundle)
    for index, text in enumerate(TEXTS):
        own = [row for row in rows if row["doc_id"] == str(index)]
        assert [row["window_index"] for row in own] == list(range(len(own)))
        assert (own[0]["char_start"], own[-1]["char_end"]) == (0, len(text))
        assert all(b["char_start"] <= a["char_end"] for a, b in pairwise(own))
        assert not any(row["was_truncated"] for row in own)
        spans = [text[row["char_start"] : row["char_end"]] for row in own]
        assert [row["text"] for row in own] == spans
        assert [row["num_tokens"] for row in own] == [len(span.split()) + 2 for span in spans]
        assert [row["num_unknown_tokens"] for row in own] == [span.split().count(UNKNOWN) for span in spans]
        np.testing.assert_allclose([row["embedding"] for row in own], plain.encode(spans), atol=1e-5)
    # Rows of a document are in one file, though there is a file for each buffer.
    files = [set(pq.read_table(path)["doc_id"].to_pylist()) for path in run.files("embeddings")]
    assert len(files) > 1
    assert sum(map(len, files)) == len(TEXTS)
    counts = run.manifest.counts
    assert (counts.num_written, counts.num_truncated, counts.num_lost_tokens) == (len(TEXTS), 0, 0)
    assert counts.num_windowed == 3
    assert counts.num_windows == len(rows) - 2
    assert counts.num_tokens == sum(row["num_tokens"] for row in rows)
    assert counts.num_unknown_tokens == sum(row["num_unknown_tokens"] for row in rows) == 3
    assert f"windows    {len(rows) - 2} of 3 documents past the limit" in run.stdout


def test_combined_documents_say_how_they_were_made(tiny_bundle: Path, source: Path, tmp_path: Path) -> None:
    flags = ["--input", source, "--id_column", "id", "--on_long", "windows", "--window_overlap", 20]
    run = run_job(tmp_path, tiny_bundle, *flags, "--combine", "max", "--layer", "1", "--layer", "2")
    assert run.exit_code == 0, run.stderr
    assert run.column("doc_id") == [str(index) for index in range(len(TEXTS))]
    assert run.column("num_tokens") == [len(text.split()) + 2 for text in TEXTS]
    assert run.column("num_unknown_tokens") == [text.split().count(UNKNOWN) for text in TEXTS]
    windows = LongTexts(OnLong.WINDOWS, 20, Combine.MAX)
    encoder = Encoder(tiny_bundle, layers=("1", "2"), long_texts=windows)
    expected = encoder.encode_outputs(TEXTS)
    for layer in ("1", "2"):
        found = vectors_of(run.rows, f"embedding_{layer}")
        np.testing.assert_allclose(found, expected[f"states_{layer}"], atol=1e-5)
    metadata = pq.read_schema(run.files("embeddings")[0]).metadata
    said = {name: metadata[f"beam_jobs.{name}".encode()].decode() for name in ("on_long", "window_overlap")}
    assert said == {"on_long": "windows", "window_overlap": "20"}
    assert metadata[b"beam_jobs.combine"] == b"max"
    assert metadata[b"beam_jobs.max_tokens"] == b"64"


def test_settings_digests_tell_ways_with_long_texts_apart(tiny_bundle: Path) -> None:
    ways = [
        [],
        ["--on_long", "windows"],
        ["--on_long", "windows", "--window_overlap", "5"],
        ["--on_long", "windows", "--combine", "max"],
        ["--rows", "window"],
        ["--rows", "word"],
        ["--rows", "word", "--word_pieces", "first"],
        ["--rows", "word", "--on_long", "windows"],
        ["--rows", "window", "--windows_at", "sentence"],
        ["--rows", "window", "--windows_at", "paragraph"],
        ["--rows", "window", "--windows_at", "sentence", "--window_language", "de"],
        ["--rows", "window", "--windows_at", "sentence", "--window_overlap", "1"],
    ]
    digests = set()
    for way in ways:
        flags = embed_parser().parse_args(way)
        settings = EncodeSettings.resolve(
            str(tiny_bundle), rows=flags.rows, long_texts=long_texts(flags), word_pieces=flags.word_pieces
        )
        digests.add(settings.digest)
    assert len(digests) == len(ways)
    as_before = EncodeSettings.resolve(
        str(tiny_bundle), rows="window", long_texts=LongTexts(windows_at=WindowsAt.TOKENS)
    )
    assert as_before.digest in digests
    assert "windows_at" not in as_before.request.to_json()["long_texts"]


@pytest.mark.parametrize(
    ("rows", "wanted", "message"),
    [
        (
            "document",
            LongTexts(windows_at=WindowsAt.SENTENCE),
            "--windows_at is for --on_long windows, not truncate",
        ),
        ("word", LongTexts(OnLong.WINDOWS, windows_at=WindowsAt.SENTENCE), "With --rows word leave it out"),
        ("window", LongTexts(window_language="de"), "--window_language is for --windows_at"),
        ("window", LongTexts(windows_at=WindowsAt.SENTENCE, window_language="Deutsch"), "such as de or zh"),
        ("window", LongTexts(None, -1, windows_at=WindowsAt.SENTENCE), "a number of sentences, 0 or more"),
    ],
)
def test_ends_of_windows_that_cannot_be_meant(
    tiny_bundle: Path, rows: str, wanted: LongTexts, message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        EncodeSettings.resolve(str(tiny_bundle), rows=rows, long_texts=wanted)


def test_another_version_of_the_boundaries_is_refused(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = LongTexts(windows_at=WindowsAt.SENTENCE)
    settings = EncodeSettings.resolve(str(tiny_bundle), rows="window", long_texts=wanted)
    monkeypatch.setattr("model_bundle.text.boundaries.version", lambda _: "0.1")
    later = EncodeSettings.resolve(str(tiny_bundle), rows="window", long_texts=wanted)
    assert later.digest != settings.digest
    with pytest.raises(SettingsError, match=r"planned with sentencex 1.* this machine has sentencex 0\.1"):
        request_input(settings.open_bundle(), settings.request)
    last_night = {
        "bundle": {"digest": "b"},
        "settings_digest": "s",
        "settings": settings.relevant,
        "config": {},
    }
    why = difference(RunManifest.model_construct(**last_night), "b", later.digest, {})
    assert re.fullmatch(
        r"its windows end where sentencex 1.* put the ends .*, now it is sentencex 0\.1.*", why
    )


def test_windows_of_sentences_have_the_vectors_of_their_texts(tiny_bundle: Path) -> None:
    text = "the cat sat on a mat. the dog ran home. " * 40 + "\n\n" + "a cat and a dog. " * 30
    ends = LongTexts(OnLong.WINDOWS, 1, windows_at=WindowsAt.SENTENCE)
    (encoded,) = Encoder(tiny_bundle, rows="window", long_texts=ends).encode_buffers([text])
    assert encoded.windows is not None
    spans = [text[start:stop] for start, stop in zip(encoded.windows.start, encoded.windows.end, strict=True)]
    assert len(spans) > 8
    assert all(span.rstrip().endswith(".") for span in spans)
    (vectors,) = encoded.vectors.values()
    np.testing.assert_allclose(vectors, Encoder(tiny_bundle).encode(spans), atol=1e-5)


def test_every_word_of_a_long_document_has_a_row(tiny_bundle: Path, source: Path, tmp_path: Path) -> None:
    flags = ["--input", source, "--id_column", "id", "--rows", "word", "--on_long", "windows"]
    run = run_job(tmp_path, tiny_bundle, *flags, "--window_overlap", 30, "--precision", "bfloat16")
    assert run.exit_code == 0, run.stderr
    rows = run.rows.to_pylist()
    for index, text in enumerate(TEXTS):
        own = [row for row in rows if row["doc_id"] == str(index)]
        assert [row["word"] for row in own] == text.split()
        assert [text[row["char_start"] : row["char_end"]] for row in own] == text.split()
    assert run.manifest.counts.num_lost_words == 0
    assert run.manifest.counts.num_windowed == 3


def test_dead_letters_say_how_long(tiny_bundle: Path, source: Path, tmp_path: Path) -> None:
    flags = ["--input", source, "--id_column", "id", "--on_long", "dead_letter", "--max_dead_fraction", 0.7]
    run = run_job(tmp_path, tiny_bundle, *flags)
    assert run.exit_code == 0, run.stderr
    assert run.reasons == dict.fromkeys(LONG, "too_long")
    messages = {letter["doc_id"]: letter["message"] for letter in run.dead}
    assert messages["3"] == "The text has 65 tokens, the limit is 64."
    assert run.column("doc_id") == ["0", "1"]
    assert run.manifest.counts.dead_by_reason == {"too_long": 3}
    assert run.manifest.counts.num_tokens == 5 + 64


def test_failing_names_the_document_and_writes_no_run(
    tiny_bundle: Path, source: Path, tmp_path: Path
) -> None:
    run = run_job(tmp_path, tiny_bundle, "--input", source, "--id_column", "id", "--on_long", "fail")
    assert run.exit_code == 1
    assert "Document 2 of " in run.stderr
    assert "has 302 tokens, the limit is 64, and --on_long fail ends the run." in run.stderr
    assert not list(run.root.glob("manifest*.json"))


def test_truncation_is_counted_in_tokens(tiny_bundle: Path, source: Path, tmp_path: Path) -> None:
    run = run_job(tmp_path, tiny_bundle, "--input", source, "--id_column", "id")
    assert run.exit_code == 0, run.stderr
    assert run.column("was_truncated") == [False, False, True, True, True]
    lost = (300 - 62) + 1 + (500 - 62)
    assert (run.manifest.counts.num_truncated, run.manifest.counts.num_lost_tokens) == (3, lost)
    assert f"truncated  3 documents ({lost} tokens past the limit)" in run.stdout


def test_a_window_that_fails_costs_its_document(tiny_bundle: Path, tmp_path: Path) -> None:
    texts = ["the cat " * 100, "the cat " * 50 + FAILING_WORD + " the cat" * 50, "a mat"]
    source = write_texts(tmp_path / "in.jsonl", texts)
    flags = ["--input", source, "--id_column", "id", "--rows", "window", "--max_dead_fraction", 0.5]
    run = run_job(tmp_path, tiny_bundle, *flags)
    assert run.exit_code == 0, run.stderr
    assert run.reasons == {"1": "model_error"}
    assert run.dead[0]["message"].startswith("Window 1: ")
    assert set(run.column("doc_id")) == {"0", "2"}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--window_overlap", "3"], "--window_overlap is for --on_long windows"),
        (["--on_long", "windows", "--window_overlap", "62"], "Use 0 to 61."),
        (["--rows", "window", "--combine", "mean"], "--combine mean yields one vector per text"),
    ],
)
def test_flags_that_cannot_be_meant_end_before_work(
    tiny_bundle: Path, source: Path, tmp_path: Path, flags: list[str], message: str
) -> None:
    run = run_job(tmp_path, tiny_bundle, "--input", source, *flags)
    assert run.exit_code == 2
    assert message in run.stderr
    assert not run.root.exists()


def test_classes_of_long_texts(
    build_head: Callable[[str], ModelBundle], tmp_path: Path, source: Path
) -> None:
    mood, tagger = (build_head(name).path for name in ("tiny_distilbert_mood", "tiny_bert_entities"))
    run = run_classify(tmp_path, mood, "--input", source, "--on_long", "windows", run_id="refused")
    assert run.exit_code == 2
    assert "no general way to combine them" in run.stderr
    flags = ["--input", source, "--id_column", "id", "--max_tokens", 20]
    run = run_classify(
        tmp_path, mood, *flags, "--on_long", "dead_letter", "--max_dead_fraction", 1, run_id="dead"
    )
    assert run.exit_code == 0, run.stderr
    assert set(run.reasons.values()) == {"too_long"}
    assert run.column("doc_id") == ["0"]
    run = run_classify(tmp_path, tagger, *flags, "--on_long", "windows", run_id="words")
    assert run.exit_code == 0, run.stderr
    assert run.column("word") == [word for text in TEXTS for word in text.split()]
    run = run_classify(tmp_path, mood, *flags, "--on_long", "fail", run_id="fails")
    assert run.exit_code == 1
    assert "Document 1 of " in run.stderr


@pytest.mark.parametrize("rows", ["window", pytest.param("word", marks=pytest.mark.slow)])
def test_rows_of_long_documents_are_taken_over_whole(
    tiny_bundle: Path, source: Path, tmp_path: Path, rows: str
) -> None:
    """Under another id and from another file, with the part of the text that each row is."""
    flags = ["--rows", rows, "--on_long", "windows", "--keep_text", "--id_column", "id"]
    first = run_job(tmp_path / "out", tiny_bundle, "--input", source, *flags, run_id="first")
    moved = write_jsonl(
        tmp_path / "moved.jsonl", [{"id": f"new {i}", "text": t} for i, t in enumerate(TEXTS)]
    )
    taking = ["--previous", "first", *flags]
    second = run_job(tmp_path / "out", tiny_bundle, "--input", moved, *taking, run_id="second")
    assert second.exit_code == 0, second.stderr
    assert second.manifest.counts.num_reused == len(TEXTS)
    expected = [row | {"doc_id": f"new {row['doc_id']}", "source": None} for row in first.rows.to_pylist()]
    assert [row | {"source": None} for row in second.rows.to_pylist()] == expected
    for row in second.rows.to_pylist():
        text = TEXTS[int(row["doc_id"].removeprefix("new "))]
        if rows == "window":
            assert row["text"] == text[row["char_start"] : row["char_end"]]
        else:
            before, word, after = word_in(row["text"], row["char_start"], row["char_end"])
            assert word == row["word"]
            assert before + word + after in text
            assert len(row["text"]) <= 200 + len(word)


def test_a_document_of_many_words_keeps_within_memory(tiny_bundle: Path, tmp_path: Path) -> None:
    """With its text on every row, 30,000 words would be more than Arrow can count."""
    text = "the unbelievable cat " * 10_000
    source = write_texts(tmp_path / "in.jsonl", [text])
    flags = ["--rows", "word", "--on_long", "windows", "--keep_text"]
    run = run_job(tmp_path / "out", tiny_bundle, "--input", source, *flags)
    assert run.exit_code == 0, run.stderr
    assert run.column("word") == text.split()
    assert sum(file.stat().st_size for file in run.files("embeddings")) < 20_000_000
