"""Measures jobs from a thousand documents to a million: cost per document, memory, files.

Uses the smallest model, to make costs that grow with the number of documents most visible.
"""

from __future__ import annotations

import argparse
import dataclasses
import random
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks import tables
from benchmarks.corpus import Corpus, read_corpus
from benchmarks.end_to_end import JobInput, measure_job
from benchmarks.errors import BenchmarkError
from benchmarks.registry import Job, our_job
from benchmarks.results import new_results, publish
from model_bundle.base.machine import has_fast_bfloat16
from model_bundle.bundle.resolve import DEFAULT_BUNDLE as BUNDLE

NAME = "scale"
_SMALLEST = 1000
_WORDS = (4, 16)
_SEED = 3


def run(flags: argparse.Namespace, work: Path) -> None:
    """Measures jobs of growing size and publishes the results."""
    precision = "bfloat16" if has_fast_bfloat16() else "float32"
    job = Job("job", "job", lambda lines, output: our_job(lines, output, BUNDLE, precision))
    corpus = read_corpus(flags.corpus)
    rows = []
    for name, texts in _corpora(corpus, flags.scale_documents, flags.job_documents):
        measured = measure_job(job, JobInput.write(texts, work), work)
        rows.append({"name": name, "num_documents": len(texts.texts), **_checked(measured, len(texts.texts))})
        print(f"{name}, {len(texts.texts):,} documents: {measured['seconds']:.1f} s", flush=True)
        shutil.rmtree(work / job.name)
    results = new_results(precision=precision, jobs=rows)
    publish(results, NAME, render(results), flags.output)


def _corpora(corpus: Corpus, num_synthetic: int, num_real: int) -> list[tuple[str, Corpus]]:
    sizes = [_SMALLEST]
    while sizes[-1] * 10 <= num_synthetic:
        sizes.append(sizes[-1] * 10)
    synthetic = short_texts(corpus, sizes[-1])
    found = [
        ("synthetic, short", dataclasses.replace(synthetic, texts=synthetic.texts[:size])) for size in sizes
    ]
    few = corpus.repeated(min(len(corpus.texts), num_real))
    return [*found, (corpus.name, few), (f"{corpus.name}, repeated", corpus.repeated(num_real))]


def short_texts(corpus: Corpus, num_documents: int) -> Corpus:
    """Generates short documents from the words of a corpus, deterministically."""
    words = sorted({word for text in corpus.texts for word in re.findall(r"[a-z]+", text.lower())})
    generator = random.Random(_SEED)
    texts = [" ".join(generator.choices(words, k=generator.randint(*_WORDS))) for _ in range(num_documents)]
    return Corpus("synthetic", texts)


def _checked(measured: dict[str, Any], num_documents: int) -> dict[str, Any]:
    counts = measured["manifest"]["counts"]
    if counts["num_written"] != num_documents:
        raise BenchmarkError(f"{counts['num_written']} rows were written for {num_documents} documents.")
    return measured


def render(results: Mapping[str, Any]) -> str:
    """Returns the Markdown table."""
    header = [
        *("documents", "tokens", "seconds without start-up", "ms per document", "µs per token", "start-up s"),
        *("peak MB", "files", "MB per file", "others' load"),
    ]
    rows = [_row(job) for job in results["jobs"]]
    model = f"With {BUNDLE}, in {results['precision']}:"
    return "\n\n".join([tables.machine_lines(results), model, tables.markdown(header, rows)])


def _row(job: Mapping[str, Any]) -> list[str]:
    counts = job["manifest"]["counts"]
    sizes = [file["num_bytes"] / 1e6 for file in job["manifest"]["files"]]
    return [
        f"{job['num_documents']:,} {job['name']}",
        f"{counts['num_tokens']:,}",
        tables.number(job["seconds"]),
        tables.number(1e3 * job["seconds"] / job["num_documents"]),
        tables.number(1e6 * job["seconds"] / counts["num_tokens"]),
        tables.number(job["startup_seconds"]),
        tables.number(job["peak_memory_bytes"] / 1e6),
        str(len(sizes)),
        f"{tables.number(min(sizes))}-{tables.number(max(sizes))}",
        tables.percent(job["others_share"]),
    ]
