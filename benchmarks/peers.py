"""Compares systems: model loops, jobs, tables and plot."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks import tables
from benchmarks.corpus import read_corpus
from benchmarks.errors import BenchmarkError
from benchmarks.fidelity import Fidelity
from benchmarks.loop_quality import QualityTexts
from benchmarks.models import unpack_minilm, with_int8
from benchmarks.plots import check_can_plot, plot_speeds
from benchmarks.registry import REFERENCE, check_names, is_ours
from benchmarks.results import new_results, publish, write_results
from benchmarks.side_by_side import Setup, best_batch_size, compare_jobs, compare_loops, try_jobs
from benchmarks.spread import Spread
from benchmarks.summary import job_overheads, job_rows, loop_rows, peaks, precision_of, ratio_rows
from benchmarks.systems.loops import sample
from benchmarks.systems.quantize_peers import CALIBRATION_NAME

NAME = "peers"
# For int8, ours and theirs.
_CALIBRATION_TEXTS = 600


def run(flags: argparse.Namespace, work: Path) -> None:
    """Measures loops and jobs, writes results after each, and updates the README.

    Raises:
        BenchmarkError: something could not be measured.
    """
    check_can_plot()
    systems = tuple(flags.systems.split(","))
    check_names(systems, flags.peers_python, flags.held_to)
    if min(flags.rounds, flags.job_rounds) < 1:
        raise BenchmarkError("--rounds and --job_rounds must be at least 1.")
    # Absolute but not resolved: a virtual environment's interpreter is a link, and its location matters.
    texts = read_corpus(flags.corpus)
    calibration = sample(texts.texts, _CALIBRATION_TEXTS)
    (work / CALIBRATION_NAME).write_text(json.dumps(calibration), encoding="utf-8")
    model = unpack_minilm(work)
    if any(is_ours(name) and precision_of(name).startswith("int") for name in systems):
        model = with_int8(model, calibration, work)
    quality = QualityTexts(flags.quality_data, flags.quality_documents)
    setup = Setup(systems, model, work, flags.peers_python.absolute(), quality, flags.held_to)
    corpus = texts.repeated(flags.documents)
    name = NAME if flags.held_to is None else f"{NAME}-{flags.held_to.lower()}"
    results = new_results(corpus=corpus.describe(), held_to=flags.held_to)
    try_jobs(setup, corpus)
    if setup.loops:
        loops = compare_loops(setup, corpus, flags.rounds)
        results |= {"loops": loops, "systems": loops["systems"]}
        write_results(results, name, flags.output)
    if setup.jobs:
        jobs = corpus.repeated(flags.job_documents)
        size = best_batch_size(results.get("loops"))
        results["jobs"] = compare_jobs(setup, corpus, jobs, flags.job_rounds, size)
    if flags.held_to is not None:  # no table of the README: those are of whole processors
        print(f"\n{render(results)}\n\nresults: {write_results(results, name, flags.output)}", flush=True)
        return
    path = write_results(results, name, flags.output).with_suffix(".png")
    plot_speeds(panels(results), path)
    publish(results, name, f"{render(results)}\n\n![documents per second](results/{path.name})", flags.output)


def render(results: Mapping[str, Any]) -> str:
    """Returns the Markdown of all comparisons."""
    parts = [tables.machine_lines(results)]
    if loops := results.get("loops"):
        parts += _render_loops(loops)
    if jobs := results.get("jobs"):
        parts += _render_jobs(jobs)
    return "\n\n".join(parts)


def _render_loops(loops: Mapping[str, Any]) -> list[str]:
    labels = {name: system["label"] for name, system in loops["systems"].items()}
    settings = {name: system["ready"]["details"]["setting"] for name, system in loops["systems"].items()}
    rows = loop_rows(loops["rounds"], loops["num_documents"], loops["flops"])
    best = [labels.get(REFERENCE)] if REFERENCE in labels else []
    intro = (
        f"Model loops, {loops['num_documents']:,} documents of {loops['num_tokens']:,} tokens"
        + (f"; fidelity to {best[0]}" if best else "")
        + "."
    )
    parts = [
        intro,
        tables.loop_table(rows, labels, settings, _fidelity(loops)),
        tables.peak_line(peaks(loops["rounds"])),
    ]
    if loops.get("quality"):
        parts += ["What the vectors are worth:", tables.quality_table(loops["quality"], labels)]
    ratio = ratio_rows(loops["rounds"])
    if ratio and ratio[0].whole:
        parts += ["Relative throughput of this project:", tables.ratio_table(ratio, labels)]
    return parts


def _render_jobs(jobs: Mapping[str, Any]) -> list[str]:
    rounds, sizes = jobs["rounds"], (jobs["num_documents"], jobs["num_loop_documents"])
    parts = [
        f"Jobs from a text file to Parquet, {sizes[0]:,} documents, start-up apart:",
        tables.job_table(job_rows(rounds, sizes[0]), jobs["labels"], _fidelity(jobs)),
    ]
    if whole := job_overheads(rounds, *sizes):
        parts.append(tables.overhead_line(whole, "to the end of the command"))
        committed = job_overheads(rounds, *sizes, key="commit_seconds")
        parts.append(tables.overhead_line(committed, "until the manifest is written"))
    return parts


def _fidelity(part: Mapping[str, Any]) -> dict[str, Fidelity]:
    return {name: Fidelity(**values) for name, values in part["fidelity"].items()}


def panels(results: Mapping[str, Any]) -> dict[str, list[tuple[str, Spread, bool]]]:
    """Returns the panels of the plot."""
    found: dict[str, list[tuple[str, Spread, bool]]] = {}
    if loops := results.get("loops"):
        labels = {name: system["label"] for name, system in loops["systems"].items()}
        rows = loop_rows(loops["rounds"], loops["num_documents"], loops["flops"])
        found["Model loop, documents/s"] = [
            (labels[row.name], row.documents_per_second, is_ours(row.name)) for row in rows
        ]
    if jobs := results.get("jobs"):
        found["Text to Parquet, documents/s"] = [
            (jobs["labels"][row.name], row.documents_per_second, is_ours(row.name))
            for row in job_rows(jobs["rounds"], jobs["num_documents"])
        ]
    return found
