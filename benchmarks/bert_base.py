"""Compares BERT-base's shape with MiniLM's: share of peak FLOP/s, memory, time to the first result."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks import tables
from benchmarks.corpus import read_corpus
from benchmarks.flops import EncoderShape, text_flops
from benchmarks.models import Model, token_lengths, unpack_minilm
from benchmarks.processes import run_timed
from benchmarks.registry import PEAK, loop_system, peak_system
from benchmarks.results import new_results, publish
from benchmarks.spread import Spread
from benchmarks.summary import column, peaks, precision_of
from benchmarks.worker import System, run_rounds, started

NAME = "bert_base"
# Long enough for a steady speed, short enough that float32 at this size stays below half an hour.
_DOCUMENTS = 1024
_BERT_BASE = EncoderShape(num_layers=12, dim=768, inner_dim=3072)


def run(flags: argparse.Namespace, work: Path) -> None:
    """Builds the large model, measures both in both precisions, and publishes."""
    minilm = unpack_minilm(work)
    build = [
        sys.executable,
        "-m",
        "benchmarks.systems.random_bert",
        str(minilm.bundle),
        str(work / "bert_base"),
    ]
    run_timed(build, work / "build.log")
    models = {
        "minilm": minilm,
        "bert_base": dataclasses.replace(minilm, bundle=work / "bert_base", shape=_BERT_BASE),
    }
    corpus = read_corpus(flags.corpus)
    corpus = corpus.repeated(min(_DOCUMENTS, flags.documents))
    texts = corpus.write_json(work / "texts.json")
    systems = [
        _system(name, model, precision, texts, work)
        for name, model in models.items()
        for precision in ("float32", "bfloat16")
    ]
    with started([*systems, peak_system()], work) as workers:
        run_rounds(workers, 1)
        rounds = run_rounds(workers, flags.rounds)
        ready = {name: worker.ready for name, worker in workers.items()}
    lengths = token_lengths(minilm.bundle, corpus.texts)
    results = new_results(
        corpus=corpus.describe(),
        flops={name: text_flops(model.shape, lengths) for name, model in models.items()},
        systems={s.name: {"label": s.label, "ready": ready[s.name]} for s in systems},
        rounds=rounds,
    )
    publish(results, NAME, render(results), flags.output)


def _system(name: str, model: Model, precision: str, texts: Path, work: Path) -> System:
    system = loop_system(f"ours_{precision}", model, texts, work, Path(sys.executable))
    return dataclasses.replace(system, name=f"{name}_{precision}", label=f"{name}, {precision}")


def render(results: Mapping[str, Any]) -> str:
    """Returns the Markdown tables."""
    best = peaks(results["rounds"])
    header = [
        *("model", "tokens/s in the model", "of peak, model's shape", "of peak, large"),
        *("imports s", "first result s after them", "peak MB"),
    ]
    rows = [_row(name, results, best) for name in results["rounds"] if name != PEAK]
    documents = f"{results['corpus']['num_documents']:,} documents:"
    table = tables.markdown(header, rows)
    return "\n\n".join([tables.machine_lines(results), documents, table, tables.peak_line(best)])


def _row(name: str, results: Mapping[str, Any], best: Mapping[str, Spread]) -> list[str]:
    answers, system, precision = results["rounds"][name], results["systems"][name], precision_of(name)
    seconds = column(answers, "model_seconds")
    speeds = Spread.of([answers[0]["num_tokens"] / s for s in seconds])
    flops = results["flops"][name.removesuffix(f"_{precision}")] / Spread.of(seconds).median
    details = system["ready"]["details"]
    return [
        system["label"],
        tables.spread(speeds),
        tables.percent(flops / best[f"{precision}/model"].median),
        tables.percent(flops / best[f"{precision}/large"].median),
        tables.number(details["import_seconds"]),
        tables.number(details["first_result_seconds"]),
        tables.number(max(answer["peak_memory_bytes"] for answer in answers) / 1e6),
    ]
