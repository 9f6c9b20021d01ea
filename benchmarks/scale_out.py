"""Measures one job on engines of worker processes against the same job in one process.

Engines take turns within a round, so that a busy machine slows all of them; the table has medians. It needs
Prism and is not part of ``benchmarks.run``: ``PRISM_LOCATION=... python -m benchmarks.scale_out``
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
from collections.abc import Iterator
from datetime import datetime
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
    "Prism, worker pool": (),
}
_LOOK_SECONDS = 0.5


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
        texts = short_texts(read_corpus(None), flags.documents)
        lines = texts.write_lines(work / "in.txt")
        for number in range(flags.rounds):
            for name in ENGINES:
                before = _cpu_seconds()
                with _engine_flags(name) as (own, pool):
                    measured = _measure(lines, work / "out", flags.bundle, own, pool)
                measured["cpu_seconds"] = _cpu_seconds() - before
                found[name].append(measured)
                print(f"round {number}, {name}: {measured}", flush=True)
    results = new_results(documents=flags.documents, bundle=flags.bundle, engines=found)
    publish(results, NAME, render(results), flags.output)
    return 0


@contextlib.contextmanager
def _engine_flags(name: str) -> Iterator[tuple[tuple[str, ...], int | None]]:
    """Yields the flags of an engine and the process of its pool, where it has one."""
    if not name.startswith("Prism"):
        yield ENGINES[name], None
        return
    prism = ("--runner", "PrismRunner", "--prism_location", os.environ["PRISM_LOCATION"])
    command = [sys.executable, "-m", "beam_jobs.worker_pool", "--service_port", "0"]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as pool:
        assert pool.stdout is not None
        address = pool.stdout.readline().removeprefix("worker pool at ").strip()
        external = ("--environment_type", "EXTERNAL", "--environment_config", address)
        try:
            yield (*prism, *external), pool.pid
        finally:
            pool.terminate()


def _measure(
    lines: Path, output: Path, bundle: str, own: tuple[str, ...], pool: int | None
) -> dict[str, Any]:
    shutil.rmtree(output, ignore_errors=True)
    job = (sys.executable, "-m", "beam_jobs.embed", "--input", str(lines), "--output", str(output))
    command = [*job, "--bundle", bundle, "--run_id", "run", "--no_report", *own]
    loaded: set[int] = set()
    started = time.monotonic()
    with subprocess.Popen(
        command, cwd=ROOT, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        while process.poll() is None:
            time.sleep(_LOOK_SECONDS)
            loaded |= _with_tensorflow([process.pid, *([] if pool is None else [pool])])
    seconds = time.monotonic() - started
    manifest = json.loads((output / "run" / "manifest.json").read_text())
    return {
        "seconds": seconds,
        "run_seconds": _between(manifest["started_at"], manifest["finished_at"]),
        "model_seconds": manifest["counts"]["model_seconds"],
        "ready_seconds": manifest["workers"]["ready_seconds"],
        "num_read": manifest["counts"]["num_read"],
        "files": len(manifest["files"]),
        "processes_with_tensorflow": len(loaded),
    }


def _cpu_seconds() -> float:
    """Returns the processor time of all processes that were started here and have ended, and of theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _between(start: str, end: str) -> float:
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()


def _with_tensorflow(roots: list[int]) -> set[int]:
    """Returns the processes below some, and those themselves, that have TensorFlow's library in memory."""
    found, waiting = set(), list(roots)
    while waiting:
        pid = waiting.pop()
        with contextlib.suppress(OSError):
            if "libtensorflow_cc" in Path(f"/proc/{pid}/maps").read_text():
                found.add(pid)
            for children in Path(f"/proc/{pid}/task").glob("*/children"):
                waiting += map(int, children.read_text().split())
    return found


def render(results: dict[str, Any]) -> str:
    """Returns the Markdown table."""
    engines = results["engines"]
    base = [measured["cpu_seconds"] for measured in engines[BASE]]
    rows = []
    for name, rounds in engines.items():
        cpu = [measured["cpu_seconds"] for measured in rounds]
        more = Spread.of([100 * (ratio - 1) for ratio in _ratios(cpu, base)])
        rows.append(
            [
                name,
                tables.spread(Spread.of([measured["seconds"] for measured in rounds])),
                tables.spread(Spread.of(cpu)),
                tables.spread(more) if name != BASE else "",
                str(max(measured["files"] for measured in rounds)),
                str(max(measured["processes_with_tensorflow"] for measured in rounds)),
            ]
        )
    head = ["engine", "seconds", "processor seconds", "% more of these", "files", "processes with a model"]
    what = f"{results['documents']:,} short documents, {results['bundle']}"
    return "\n\n".join([tables.machine_lines(results), what, tables.markdown(head, rows)])


def _ratios(dividends: list[float], divisors: list[float]) -> list[float]:
    return [a / b for a, b in zip(dividends, divisors, strict=True)]


if __name__ == "__main__":
    sys.exit(main())
