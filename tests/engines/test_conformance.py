"""One set of jobs gives the same rows, counts and dead letters on every engine.

The table of docs/reference/conformance.md is its result. To write it anew:
BEAM_JOBS_CONFORMANCE=docs/reference/conformance.md
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model_bundle.bundle.bundle import ModelBundle
from tests.support.faults.engines import ENGINES, engine_flags
from tests.support.models.tiny import FAILING_WORD, NAN_WORD
from tests.support.models.tiny_elmo import build_tiny_elmo
from tests.support.runs.jobs import PROJECT, Run, run_classify, run_job, vectors_of, write_texts

TEXTS = [f"the {'cat sat on ' * (i % 7)}mat {i}" for i in range(400)]
POISON = {13: FAILING_WORD, 77: NAN_WORD, 150: "  ", 399: FAILING_WORD}
TABLE = PROJECT / "docs" / "reference" / "conformance.md"
Job = Callable[[Path, list[str]], Run]
found: dict[tuple[str, str], str] = {}


@pytest.fixture(scope="module")
def jobs(
    tmp_path_factory: pytest.TempPathFactory, tiny_bundle: Path, build_head: Callable[[str], ModelBundle]
) -> dict[str, Job]:
    """By what they show: functions of an output folder and an engine's flags."""
    folder = tmp_path_factory.mktemp("jobs")
    source = write_texts(folder / "in.jsonl", TEXTS)
    poisoned = [POISON.get(i, text) for i, text in enumerate(TEXTS)]
    bad = write_texts(folder / "bad.jsonl", poisoned)
    long = write_texts(folder / "long.jsonl", [" ".join(["the cat"] * (i % 90 + 1)) for i in range(60)])
    changed = write_texts(folder / "changed.jsonl", [*TEXTS[:300], *(f"{t} home" for t in TEXTS[300:])])
    elmo = build_tiny_elmo(folder).path
    head = build_head("tiny_distilbert_mood").path
    common = ["--id_column", "id", "--no_report"]

    def embed(bundle: Path, path: Path, *own: Any) -> Job:
        return lambda out, flags: run_job(out, bundle, "--input", path, *common, *own, *flags)

    def previous(out: Path, flags: list[str]) -> Run:
        first = run_job(out, tiny_bundle, "--input", source, *common, run_id="first")
        assert first.exit_code == 0, first.stderr
        return embed(tiny_bundle, changed, "--previous", "latest", "--emit", "all")(out, flags)

    return {
        "BERT": embed(tiny_bundle, source),
        "ELMo": embed(elmo, source),
        "classify": lambda out, flags: run_classify(out, head, "--input", source, *common, *flags),
        "`--previous`": previous,
        "dead letters": embed(tiny_bundle, bad, "--max_dead_fraction", 0.1),
        "windows": embed(tiny_bundle, long, "--rows", "window", "--max_tokens", 16),
        "`--isolate_model`": embed(tiny_bundle, source, "--isolate_model"),
    }


@pytest.fixture(scope="module")
def expected(jobs: dict[str, Job], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Run]:
    """What the in-process runner makes of a job, which the other tests hold to the model itself."""
    runs: dict[str, Run] = {}

    def run(name: str) -> Run:
        if name not in runs:
            runs[name] = jobs[name](tmp_path_factory.mktemp("expected"), [])
        return runs[name]

    return run


@pytest.fixture(scope="module", autouse=True)
def table_of_the_docs() -> Iterator[None]:
    """Writes the table if it was asked for; rows of jobs that were not run stay."""
    yield
    if os.environ.get("BEAM_JOBS_CONFORMANCE"):
        path = PROJECT / os.environ["BEAM_JOBS_CONFORMANCE"]
        text = path.read_text(encoding="utf-8")
        head, rest = text.split("<!-- table -->\n")
        old, tail = rest.split("<!-- end -->")
        rows = {line.split(" | ")[0]: line for line in old.splitlines()[2:]}
        for job in dict.fromkeys(job for job, _ in found):
            known = rows.get(f"| {job}", "").strip("| ").split(" | ")[1:]  # of engines that were not here now
            before = dict(zip(ENGINES, known, strict=False))
            cells = (found.get((job, engine), before.get(engine, "not run")) for engine in ENGINES)
            rows[f"| {job}"] = f"| {job} | {' | '.join(cells)} |"
        lines = [f"| | {' | '.join(ENGINES)} |", f"|---|{'---|' * len(ENGINES)}", *rows.values()]
        table = "\n".join(lines)
        path.write_text(f"{head}<!-- table -->\n{table}\n<!-- end -->{tail}", encoding="utf-8")


def assert_same(run: Run, expected: Run) -> None:
    """Checks rows, dead letters and the counts of the manifest; order and files may differ."""
    assert run.exit_code == 0, run.stderr
    assert list(run.root.glob("_staging")) == []
    assert run.rows.schema.remove_metadata() == expected.rows.schema.remove_metadata()
    vectors = [c for c in run.rows.column_names if c in ("embedding", "scores")]
    ours, theirs = (_sorted(r, vectors) for r in (run, expected))
    assert ours[0] == theirs[0]
    np.testing.assert_allclose(ours[1], theirs[1], atol=1e-5)
    assert _dead(run) == _dead(expected)
    assert _counts(run) == _counts(expected)
    files = [file for file in run.manifest.files if file.kind != "changes"]
    assert sum(file.num_rows for file in files) == len(run.rows) + len(run.dead)


def _sorted(run: Run, vectors: list[str]) -> tuple[list[str], np.ndarray]:
    """Returns all but the vectors, and the vectors, in one order."""
    others = run.rows.drop_columns([*vectors, "source"])
    lines = [json.dumps(row, sort_keys=True, default=str) for row in others.to_pylist()]
    order = sorted(range(len(lines)), key=lambda i: lines[i])
    array = np.concatenate([vectors_of(run.rows, c) for c in vectors], axis=1)
    return [lines[i] for i in order], array[order]


def _dead(run: Run) -> list[tuple[Any, ...]]:
    return sorted((d["doc_id"], d["stage"], d["reason"], d["text"]) for d in run.dead)


def _counts(run: Run) -> dict[str, Any]:
    """What does not depend on how documents met in batches."""
    counts = run.manifest.counts.model_dump()
    return {k: v for k, v in counts.items() if k not in ("model_seconds", "num_padded_tokens")}


@pytest.mark.engines
@pytest.mark.timeout(600)
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "name", ["BERT", "ELMo", "classify", "`--previous`", "dead letters", "windows", "`--isolate_model`"]
)
def test_an_engine_gives_what_the_others_give(
    name: str, engine: str, jobs: dict[str, Job], expected: Callable[[str], Run], tmp_path: Path
) -> None:
    reference = expected(name)
    with engine_flags(engine) as flags:
        found[name, engine] = "**no**"
        run = reference if engine == "in-process" else jobs[name](tmp_path, flags)
        assert_same(run, reference)
    found[name, engine] = "same rows"


def test_the_table_in_the_docs_is_of_these_engines() -> None:
    text = TABLE.read_text(encoding="utf-8")
    assert f"| | {' | '.join(ENGINES)} |" in text
    assert "**no**" not in text
