"""Thousands of documents nobody would write: each ends as a row or as a dead letter with a reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from model_bundle.inference.encoder import Encoder
from tests.support.examples import examples
from tests.support.models.tiny import FAILING_WORD, NAN_WORD
from tests.support.runs.jobs import Run, run_job, vectors_of


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


# Any code point, half surrogate pairs among them, and what is special to tokenizers, JSON and CSV.
_ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=60)
_PIECES = st.sampled_from(
    ["[CLS]", "[MASK]", "##a", "\x00", "\r", "\u2028", "\ufeff", "\u202e", "\U0001f600", "a\u0301" * 9, '"',
     "\\", "cat", FAILING_WORD, NAN_WORD, " ", "\n", "x" * 2000, "\u0000\uffff", "\u0bf5", "\u017f", "\u0130",
     "\ufb00"]
)  # fmt: skip
_TEXTS = _ANY_TEXT | st.lists(_PIECES, max_size=8).map("".join)
_JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | _ANY_TEXT,
    lambda inner: st.lists(inner, max_size=3),
)
# Lines of a file: documents, values that are none, and plain bytes.
_DOCUMENT = _TEXTS.map(lambda text: json.dumps({"text": text}).encode())
_RAW_DOCUMENT = _TEXTS.map(lambda text: _encoded(json.dumps({"text": text}, ensure_ascii=False)))
_VALUE = st.dictionaries(st.just("text") | _ANY_TEXT, _JSON, max_size=3).map(lambda v: json.dumps(v).encode())
_BYTES = st.binary(max_size=80).map(lambda data: data.replace(b"\n", b"\r"))
_LINES = st.one_of(_DOCUMENT, _DOCUMENT, _RAW_DOCUMENT, _VALUE, _BYTES)
# A check before work refuses files whose first rows are nothing but noise, so they begin well.
_HEAD = [b'{"text": "a cat"}'] * 60

# Short lists that Hypothesis draws quickly, put into one file; at night, ten thousand lines.
NUM_DRAWS, NUM_DRAWN = 260, 40


def _draw(strategy: st.SearchStrategy[Any], num_draws: int) -> list[Any]:
    """Collects what Hypothesis thinks of: the same every time, so that a failure comes again."""
    drawn: list[Any] = []

    @settings(
        max_examples=num_draws,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        derandomize=True,
        database=None,
        phases=[Phase.generate],
    )
    @given(st.lists(strategy, min_size=NUM_DRAWN, max_size=NUM_DRAWN))
    def collect(values: list[Any]) -> None:
        drawn.extend(values)

    collect()
    return drawn


def _check(run: Run, num_expected: int | None) -> None:
    assert run.exit_code == 0, run.stderr
    counts = run.manifest.counts
    assert counts.num_read == counts.num_written + counts.num_dead
    assert num_expected is None or counts.num_read == num_expected
    ids = [*run.column("doc_id"), *(letter["doc_id"] for letter in run.dead)]
    assert len(set(ids)) == len(ids) == counts.num_read
    assert all(letter["reason"] and letter["message"] and letter["stage"] for letter in run.dead)
    assert np.isfinite(vectors_of(run.rows)).all()


@pytest.mark.hypothesis
def test_every_hostile_line_is_a_row_or_has_a_reason(tmp_path: Path, tiny_bundle: Path) -> None:
    num_draws = examples(NUM_DRAWS)
    lines = _draw(_LINES, num_draws)
    assert len(lines) >= num_draws * NUM_DRAWN
    source = tmp_path / "in.jsonl"
    source.write_bytes(b"\n".join([*_HEAD, *lines]))
    flags = ["--input", source, "--text_column", "text", "--keep_text", "--max_dead_fraction", 1]
    run = run_job(tmp_path / "out", tiny_bundle, *flags)
    blank = sum(1 for line in lines if not line or line.isspace())
    _check(run, len(_HEAD) + len(lines) - blank)
    assert run.rows.num_rows > len(lines) // 5
    assert len(set(run.reasons.values())) > 4
    expected = Encoder(str(tiny_bundle)).encode(run.column("text"))
    np.testing.assert_allclose(vectors_of(run.rows), expected, atol=1e-5)


@pytest.mark.parametrize("name", ["in.txt", "in.csv", "in.tsv"])
def test_every_hostile_file_is_read_to_its_end(name: str, tmp_path: Path, tiny_bundle: Path) -> None:
    parts = _draw(st.binary(max_size=60) | _ANY_TEXT.map(_encoded), 40)
    head = ["text" if "txt" not in name else "a cat", *(f"a cat {i}" for i in range(200))]
    (tmp_path / name).write_bytes("\n".join(head).encode() + b"\n" + b"\n".join(parts))
    flags = ["--input", tmp_path / name, "--max_dead_fraction", 1, "--max_dead_files", 1]
    _check(run_job(tmp_path / "out", tiny_bundle, *flags), None)
