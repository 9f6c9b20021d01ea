"""Measures start-up: help, the first row, the graph."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import Any

from benchmarks import tables
from benchmarks.corpus import read_corpus
from benchmarks.processes import run_timed
from benchmarks.registry import our_job
from benchmarks.results import new_results, publish
from benchmarks.spread import Spread
from model_bundle.bundle.minilm import NAME as BUNDLE

NAME = "startup"


def run(flags: argparse.Namespace, work: Path) -> None:
    """Measures and publishes; a first round warms the caches of files and bundles."""
    line = read_corpus(flags.corpus).repeated(1).write_lines(work / "one_document.txt")
    seconds: dict[str, list[float]] = {}
    for number in range(flags.rounds + 1):
        measured = _round(line, work)
        print(f"round {number}: {measured}", flush=True)
        for what, value in measured.items() if number else ():
            seconds.setdefault(what, []).append(value)
    graph = _graph(line, work)
    results = new_results(seconds=seconds, graph=graph)
    publish(results, NAME, render(results), flags.output)


def _round(line: Path, work: Path) -> dict[str, float]:
    log = work / "log"
    measured = {"--help": run_timed([sys.executable, "-m", "beam_jobs.embed", "--help"], log).wall_seconds}
    for precision in ("float32", "bfloat16"):
        output = work / "run"
        shutil.rmtree(output, ignore_errors=True)
        job = run_timed(our_job(line, output, BUNDLE, precision), log)
        measured[f"one document to a finished run, {precision}"] = job.wall_seconds
    return measured


def _graph(line: Path, work: Path) -> dict[str, Any]:
    """Builds the graph in a separate process; returns the time and the heavy imports."""
    command = [sys.executable, "-m", "benchmarks.systems.graph_imports", str(line), str(work / "graph")]
    found: dict[str, Any] = json.loads(run_timed(command, work / "log").output.splitlines()[-1])
    return found


def render(results: dict[str, Any]) -> str:
    """Returns the Markdown table."""
    rows = [[what, tables.spread(Spread.of(values))] for what, values in results["seconds"].items()]
    graph = results["graph"]
    rows.append(["checking flags and building the graph, imports included", tables.number(graph["seconds"])])
    heavy = ", ".join(graph["heavy_modules"]) or "none"
    return "\n\n".join(
        [
            tables.machine_lines(results),
            tables.markdown(["from the start of the process, warm caches", "seconds"], rows),
            f"Model libraries imported to build the graph: {heavy}.",
        ]
    )
