"""Measures one job on engines of worker processes against the same job in one process.

Engines take turns within a round, so that a busy machine slows all of them; the table has medians. Each job
also runs with very few documents, which costs what its processes cost to start: imports and the model. The
rest is the price of documents. It needs Prism and is not part of ``benchmarks.run``:
``PRISM_LOCATION=... python -m benchmarks.scale_out``
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks import tables
from benchmarks.corpus import read_corpus
from benchmarks.results import DEFAULT_OUTPUT, new_results, publish
from benchmarks.scale import short_texts
from benchmarks.spread import Spread
from benchmarks.worker import ROOT, environment

NAME = "scale_out"
BASE = "in-process"
_MULTI = ("--direct_running_mode", "multi_processing", "--direct_num_workers")
ENGINES: dict[str, tuple[str, ...]] = {
    BASE: (),
    "multi-process, 1 worker": (*_MULTI, "1"),
    "multi-process, 2 workers": (*_MULTI, "2"),
    # Prism starts one worker for an environment, and has no option for more.
    "Prism": (),
    "Prism, worker pool": (),
}
# Enough for every worker to load its model.
_FEW_DOCUMENTS = 200


def main() -> int:
    """Measures and publishes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--bundle", default="bert-mini")
    parser.add_argument("--output", type=Path, default=DEFAULT_OUTPUT)
    flags = parser.parse_args()
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in ENGINES}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        few = short_texts(read_corpus(None), _FEW_DOCUMENTS).write_lines(work / "few.txt")
        lines = short_texts(read_corpus(None), flags.documents).write_lines(work / "in.txt")
        for number in range(flags.rounds):
            for name in ENGINES:
                start = _measure(name, few, work / "out", flags.bundle)
                measured = _measure(name, lines, work / "out", flags.bundle)
                measured["start_cpu_seconds"] = start["cpu_seconds"]
                found[name].append(measured)
                print(f"round {number}, {name}: {measured}", flush=True)
            # After each round: it takes long, and what was measured stays.
            results = new_results(documents=flags.documents, bundle=flags.bundle, engines=found)
            publish(results, NAME, render(results), flags.output)
    return 0


@contextlib.contextmanager
def _engine_flags(name: str) -> Iterator[tuple[str, ...]]:
    """Yields the flags of an engine, whose pool is there meanwhile."""
    if not name.startswith("Prism"):
        yield ENGINES[name]
        return
    prism = ("--runner", "PrismRunner", "--prism_location", os.environ["PRISM_LOCATION"])
    if "pool" not in name:
        yield prism
        return
    command = [sys.executable, "-m", "beam_jobs.worker_pool", "--service_port", "0"]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as pool:
        assert pool.stdout is not None
        address = pool.stdout.readline().removeprefix("worker pool at ").strip()
        external = ("--environment_type", "EXTERNAL", "--environment_config", address)
        try:
            yield (*prism, *external)
        finally:
            pool.terminate()


def _measure(name: str, lines: Path, output: Path, bundle: str) -> dict[str, Any]:
    """Runs one job on an engine."""
    shutil.rmtree(output, ignore_errors=True)
    job = (sys.executable, "-m", "beam_jobs.embed", "--input", str(lines), "--output", str(output))
    before = _cpu_seconds()
    with _engine_flags(name) as own:
        command = [*job, "--bundle", bundle, "--run_id", "run", "--no_report", *own]
        started = time.monotonic()
        subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, check=True)
        seconds = time.monotonic() - started
    manifest = json.loads((output / "run" / "manifest.json").read_text())
    counts, workers = manifest["counts"], manifest["workers"]
    return {
        "seconds": seconds,
        "cpu_seconds": _cpu_seconds() - before,
        "num_padded_tokens": counts["num_padded_tokens"],
        "num_read": counts["num_read"],
        "files": len(manifest["files"]),
        "processes": workers["num_processes"],
        "models": workers["num_models"],
        "idle_seconds": workers["idle_seconds"],
    }


def _cpu_seconds() -> float:
    """Returns the processor time of all processes that were started here and have ended, and of theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def render(results: dict[str, Any]) -> str:
    """Returns the Markdown table."""
    engines = results["engines"]
    rows = []
    for name, rounds in engines.items():
        idle = Spread.of([measured["idle_seconds"] for measured in rounds])
        rows.append(
            [
                name,
                tables.spread(Spread.of([measured["cpu_seconds"] for measured in rounds])),
                tables.spread(Spread.of([measured["start_cpu_seconds"] for measured in rounds])),
                *("" if name == BASE else _more(rounds, engines[BASE], cost) for cost in (_all, _documents)),
                tables.spread(Spread.of([measured["seconds"] for measured in rounds])),
                _range([measured["files"] for measured in rounds]),
                _range([measured["models"] for measured in rounds]),
                tables.spread(idle) if rounds[0]["processes"] > 1 else "",
            ]
        )
    head = ["engine", "processor seconds", "of these to start", "% more in all", "% more for documents"]
    head += ["seconds", "files", "models loaded", "first worker waits, seconds"]
    what = f"{results['documents']:,} short documents, {results['bundle']}"
    return "\n\n".join([tables.machine_lines(results), what, tables.markdown(head, rows)])


def _all(measured: dict[str, Any]) -> float:
    return float(measured["cpu_seconds"])


def _documents(measured: dict[str, Any]) -> float:
    return float(measured["cpu_seconds"] - measured["start_cpu_seconds"])


def _more(
    rounds: list[dict[str, Any]], base: list[dict[str, Any]], cost: Callable[[dict[str, Any]], float]
) -> str:
    """Returns by how many percent a cost is above the base's, round by round."""
    ratios = [cost(a) / cost(b) for a, b in zip(rounds, base, strict=True)]
    return tables.spread(Spread.of([100 * (ratio - 1) for ratio in ratios]))


def _range(numbers: list[int]) -> str:
    least, most = min(numbers), max(numbers)
    return str(least) if least == most else f"{least} to {most}"


if __name__ == "__main__":
    sys.exit(main())
