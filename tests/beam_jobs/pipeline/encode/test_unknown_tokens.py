"""Text that a model cannot read is counted, said and, if asked, left out: Thai with an English vocabulary."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from apache_beam.pvalue import TaggedOutput
from tokenizers import Tokenizer

from beam_jobs.base.config import check_model_choices
from beam_jobs.base.records import Document
from beam_jobs.base.units import count
from beam_jobs.base.unknown_tokens import unknown_warning
from beam_jobs.errors import UsageError
from beam_jobs.job.flags.parsers import embed_parser
from beam_jobs.pipeline.encode.dedupe import DedupingEncodeDoFn
from beam_jobs.pipeline.encode.dofn import EncodeDoFn
from beam_jobs.pipeline.encode.run_inference import BundleModelHandler
from beam_jobs.pipeline.rows.make import schema_of
from beam_jobs.pipeline.settings import EncodeSettings
from model_bundle import ModelBundle
from model_bundle.bundle.manifest import TOKENIZER_FILE
from model_bundle.errors import ModelRunError
from tests.support.runs.jobs import run_job, write_texts

# Words for today, good, go, eat, rice, friend, market, water, house, look, fun, hot, rain.
SYLLABLES = ["วันนี้", "ดี", "ไป", "กิน", "ข้าว", "เพื่อน", "ตลาด", "น้ำ", "บ้าน", "ดู", "สนุก", "ร้อน", "ฝน"]
SOURCE = random.Random(3)


def post() -> str:
    """Returns a post in Thai, in which a space ends a phrase, with a little that the model knows."""
    phrases = [
        "".join(SOURCE.choices(SYLLABLES, k=SOURCE.randint(2, 6))) for _ in range(SOURCE.randint(1, 5))
    ]
    return " ".join([*phrases, SOURCE.choice(["", "555", "ok!", "!!!!!!!!"])])


POSTS = [post() for _ in range(60)]
ENGLISH = [f"the cat number {number} sat on a mat" for number in range(20)]


TOKENIZER = Tokenizer.from_file(str(ModelBundle.open("bert-mini").path / TOKENIZER_FILE))


def tokens_of(text: str) -> list[str]:
    """Returns the tokens of a text, without special ones."""
    return list(TOKENIZER.encode(text, add_special_tokens=False).tokens)


UNKNOWN = [tokens_of(text).count("[UNK]") for text in POSTS]
FRACTIONS = [number / len(tokens_of(text)) for number, text in zip(UNKNOWN, POSTS, strict=True)]


def test_a_job_over_thai_says_what_the_model_could_not_read(tmp_path: Path) -> None:
    source = write_texts(tmp_path / "in.jsonl", POSTS)
    run = run_job(tmp_path / "out", Path("bert-mini"), "--input", source, "--id_column", "id", "--keep_text")
    assert run.exit_code == 0, run.stderr
    assert run.column("num_unknown_tokens") == UNKNOWN
    assert len({tuple(vector.tolist()) for vector in run.vectors.values()}) < len(POSTS)
    counts = run.manifest.counts
    mostly = sum(fraction > 0.5 for fraction in FRACTIONS)
    assert 0 < mostly < len(POSTS)
    assert (counts.num_unknown_tokens, counts.num_mostly_unknown) == (sum(UNKNOWN), mostly)
    share = sum(UNKNOWN) / counts.num_tokens
    said = f"unknown    {sum(UNKNOWN)} tokens ({100 * share:.2f} %); mostly unknown: {mostly} documents"
    assert said in run.stdout
    assert f"{100 * share:.1f} % of the tokens are unknown to the model" in run.stderr
    assert "such as one of a multilingual model; --max_unknown_fraction 0.5" in run.stderr
    page = (run.root / "report.html").read_text()
    assert "<h2>Unknown tokens</h2>" in page
    table = page.partition("<h2>Unknown tokens</h2>")[2].partition("</table>")[0]
    best = max(range(len(POSTS)), key=lambda at: UNKNOWN[at] / (len(tokens_of(POSTS[at])) + 2))
    assert POSTS[best] in table


def encoded(settings: EncodeSettings, texts: Sequence[str], kind: Any = EncodeDoFn) -> Iterator[Any]:
    """Yields what the encoding step makes of texts: rows and dead letters."""
    dofn = kind(settings, schema_of(settings, pa.schema([])), 0, None)
    dofn.setup()
    dofn.start_bundle()
    for index, text in enumerate(texts):
        yield from dofn.process(Document(str(index), "here", text, ()))
    for output in dofn.finish_bundle():
        yield output if isinstance(output, TaggedOutput) else output.value


def parted(outputs: Iterator[Any]) -> tuple[dict[str, int | None], dict[str, str]]:
    """Returns the unknown tokens of documents with rows, and the messages of dead letters, by id."""
    rows: dict[str, int | None] = {}
    dead = {}
    for output in outputs:
        if isinstance(output, TaggedOutput):
            letter = getattr(output.value, "value", output.value)
            assert letter.reason == "unknown_tokens"
            dead[letter.doc_id] = letter.message
        else:
            columns = (output.column(name).to_pylist() for name in ("doc_id", "num_unknown_tokens"))
            rows |= dict(zip(*columns, strict=True))
    return rows, dead


@pytest.mark.parametrize("kind", [EncodeDoFn, DedupingEncodeDoFn])
@pytest.mark.parametrize("limit", [0.0, 0.5, 0.9])
def test_texts_over_the_limit_are_dead_letters(limit: float, kind: Any) -> None:
    settings = EncodeSettings.resolve(
        "bert-mini", max_unknown_fraction=limit, dedupe=kind is DedupingEncodeDoFn
    )
    texts = [*POSTS, *ENGLISH, *POSTS[:5]]
    rows, dead = parted(encoded(settings, texts, kind))
    fractions = [*FRACTIONS, *[0.0] * len(ENGLISH), *FRACTIONS[:5]]
    assert set(dead) == {str(at) for at, fraction in enumerate(fractions) if fraction > limit}
    assert set(rows) == set(map(str, range(len(texts)))) - set(dead)
    worst = FRACTIONS.index(max(FRACTIONS))
    assert dead[str(worst)].startswith(
        f"Unknown to the model: {UNKNOWN[worst]} of the text's {count(len(tokens_of(POSTS[worst])), 'token')}"
    )


def test_run_inference_keeps_to_the_limit() -> None:
    handler = BundleModelHandler(EncodeSettings.resolve("bert-mini", max_unknown_fraction=0.5))
    model = handler.load_model()
    assert len(list(handler.run_inference(["a cat"], model))) == 1
    with pytest.raises(ModelRunError, match=r"unknown_tokens.*1 of the text's 1 token,"):
        list(handler.run_inference(["a cat", "ข้าว"], model))


def test_the_limit_is_refused_where_nothing_can_be_counted() -> None:
    with pytest.raises(UsageError, match="has no unknown tokens that could be counted"):
        EncodeSettings.resolve("elmo-mini", max_unknown_fraction=0.5)


@pytest.mark.parametrize("value", ["-0.1", "1", "nan"])
def test_the_limit_is_a_fraction_below_one(value: str) -> None:
    flags = embed_parser().parse_args(["--max_unknown_fraction", value])
    with pytest.raises(UsageError, match="from 0 to below 1"):
        check_model_choices(flags)


def test_only_a_limit_changes_the_settings_digest() -> None:
    plain, limited = (EncodeSettings.resolve("bert-mini", max_unknown_fraction=f) for f in (None, 0.5))
    assert "max_unknown_fraction" not in plain.relevant
    assert plain.digest != limited.digest


@pytest.mark.parametrize(
    ("tokens", "documents", "is_due"),
    [(0.0002, 0.0, False), (0.05, 0.01, False), (0.051, 0.0, True), (0.003, 0.02, True)],
)
def test_a_warning_is_due_for_many_tokens_or_for_some_documents(
    tokens: float, documents: float, is_due: bool
) -> None:
    assert (unknown_warning(tokens, documents) is not None) == is_due
