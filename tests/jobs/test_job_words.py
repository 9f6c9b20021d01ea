"""Jobs on a bundle whose tokens are words: rows of words, layers side by side, texts without a word."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from model_bundle.inference.encoder import Encoder
from tests.conftest import shared_path
from tests.support.runs.jobs import run_job, write_texts

TEXTS = ["The cat sat on the mat .", "a  b", " один 🙂 ", "x" * 600, "word " * 200, "tab\tstays in a word"]


@pytest.mark.slow
def test_every_word_has_a_row_with_its_place(long_words_elmo: Path, tmp_path: Path) -> None:
    run = run_job(
        tmp_path,
        long_words_elmo,
        "--input",
        write_texts(tmp_path / "in.jsonl", [*TEXTS, "   "]),
        "--rows",
        "word",
        "--id_column",
        "id",
    )
    assert run.exit_code == 0, run.stderr
    rows = run.rows.to_pylist()
    encoder = Encoder(long_words_elmo, rows="word")
    for index, text in enumerate(TEXTS):
        own = [row for row in rows if row["doc_id"] == str(index)]
        assert [row["word"] for row in own] == [word for word in text.split(" ") if word]
        assert [row["word_index"] for row in own] == list(range(len(own)))
        assert all(text[row["char_start"] : row["char_end"]] == row["word"] for row in own)
        alone = encoder.encode([text])
        np.testing.assert_allclose([row["embedding"] for row in own], alone, atol=1e-5)
    assert run.manifest.counts.num_written == len(TEXTS)
    assert run.manifest.counts.num_tokens == len(rows)
    assert set(run.column("num_unknown_tokens")) == {None}  # its characters spell every word
    assert [letter["reason"] for letter in run.dead] == ["blank_text"]


def test_word_rows_say_no_text_when_told(tiny_elmo: Path, tmp_path: Path) -> None:
    run = run_job(
        tmp_path,
        tiny_elmo,
        "--input",
        write_texts(tmp_path / "in.jsonl", TEXTS),
        "--rows",
        "word",
        "--no_text",
    )
    assert run.exit_code == 0, run.stderr
    assert "word" not in run.rows.schema.names
    assert {"word_index", "char_start", "char_end"} <= set(run.rows.schema.names)


@pytest.mark.slow
def test_layers_side_by_side(long_words_elmo: Path, tmp_path: Path) -> None:
    source = write_texts(tmp_path / "in.jsonl", TEXTS)
    layers = ("elmo", "word_emb", "lstm_outputs1", "lstm_outputs2")
    flags = [part for layer in layers for part in ("--layer", layer)]
    encoder = Encoder(long_words_elmo, layers=layers, rows="word")
    words = [encoder.encode_outputs([text]) for text in TEXTS]
    for pooling in ("mean", "max"):
        run = run_job(tmp_path / pooling, long_words_elmo, "--input", source, *flags, "--pooling", pooling)
        assert run.exit_code == 0, run.stderr
        for layer in layers:
            pool = {"mean": np.mean, "max": np.max}[pooling]
            expected = [pool(states[layer], axis=0) for states in words]
            np.testing.assert_allclose(run.column(f"embedding_{layer}"), expected, rtol=1e-5, atol=1e-5)


def test_a_bundle_that_takes_texts_refuses_rows_of_words(text_bundle: Path, tmp_path: Path) -> None:
    run = run_job(
        tmp_path, text_bundle, "--input", write_texts(tmp_path / "in.jsonl", TEXTS), "--rows", "word"
    )
    assert run.exit_code == 2
    assert "--rows word needs a bundle whose tokens are words or pieces of words" in run.stderr


def test_words_of_pieces_have_the_mean_of_them(tiny_bundle: Path, tmp_path: Path) -> None:
    """Words past the limit have no row and are counted; a text in which there is no word is a dead letter."""
    texts = ["The cat sat, zqx!", "the cat " * 40, "\u200b", "a"]
    source = write_texts(tmp_path / "in.jsonl", texts)
    run = run_job(tmp_path, tiny_bundle, "--input", source, "--rows", "word", "--id_column", "id")
    assert run.exit_code == 3, run.stderr
    rows = run.rows.to_pylist()
    own = {doc: [row for row in rows if row["doc_id"] == doc] for doc in "013"}
    assert [row["word"] for row in own["0"]] == ["The", "cat", "sat", ",", "zqx", "!"]
    assert [texts[0][row["char_start"] : row["char_end"]] for row in own["0"]] == [
        row["word"] for row in own["0"]
    ]
    assert [row["word_index"] for row in own["1"]] == list(range(62))
    assert all(row["was_truncated"] for row in own["1"])
    counts = run.manifest.counts
    assert (counts.num_truncated, counts.num_lost_words, counts.num_lost_tokens) == (1, 18, 18)
    assert run.reasons == {"2": "no_words"}
    encoder = Encoder(tiny_bundle, rows="word")
    for doc in "013":
        found = [row["embedding"] for row in own[doc]]
        np.testing.assert_allclose(found, encoder.encode([texts[int(doc)]]), atol=1e-5)


@pytest.mark.slow
@pytest.mark.needs_shared
def test_words_of_a_real_elmo_through_the_job(allennlp_elmo: Path, tmp_path: Path) -> None:
    """The stateless golden values were made in float64 by an independent model."""
    golden = np.load(shared_path("fixtures/elmo_golden/stateless_allennlp.npz"))
    inputs = json.loads(shared_path("fixtures/elmo_golden/inputs.json").read_text())
    sentences = inputs["fixture_sentences"]
    source = write_texts(tmp_path / "in.jsonl", sentences)
    run = run_job(tmp_path, allennlp_elmo, "--input", source, "--rows", "word", "--id_column", "id")
    assert run.exit_code == 0, run.stderr
    vectors = np.array(run.rows.column("embedding").to_pylist(), dtype=np.float32)
    ids = np.array(run.rows.column("doc_id").to_pylist())
    for index in range(len(sentences)):
        np.testing.assert_allclose(vectors[ids == str(index)], golden[f"fix{index:02}.bos.elmo"], atol=5e-6)
