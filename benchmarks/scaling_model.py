"""Simulates how a run scales with its workers: python -m benchmarks.scaling_model.

Measures the cost of the commit per file on this machine, then simulates a run: workers start, take splits of
the input one by one, and wait for the last one; then one worker commits.
"""

from __future__ import annotations

import argparse
import heapq
import random
import sys
import time
from dataclasses import dataclass

from beam_jobs.base.config import FailureLimits, WriteOptions
from beam_jobs.pipeline.write.commit import build_manifest, plan_commit
from beam_jobs.pipeline.write.description import RunDescription
from beam_jobs.store.receipt import Receipt

_WORKERS = (1, 10, 100, 300, 1000, 3000)


@dataclass(frozen=True)
class Costs:
    """Costs in seconds: ``a_document`` on one worker, ``a_move`` of one file on object storage."""

    a_document: float = 1 / 90  # MiniLM in float32, a core: docs/explanation/scaling.md
    a_start: float = 60.0  # image, imports, model: docs/explanation/scaling.md
    a_move: float = 0.15  # a copy inside a bucket and a delete
    a_file: float = 0.0  # of the commit, which is one worker's: measured
    a_listing: float = 0.2  # of a thousand names
    spread: float = 0.15  # of spans of equal size, as machines and texts differ


def commit_seconds_a_file(num_files: int = 20_000) -> float:
    """Measures the commit of receipts: numbering, summing and writing the manifest, in seconds per file."""
    receipts = [
        Receipt("embeddings", f"/r/_staging/e-{i:032x}.parquet", 25_000, 38_000_000, "0" * 64, i, "float32",
                {"num_documents": 25_000, "num_tokens": 1_250_000})
        for i in range(num_files)
    ]  # fmt: skip
    limits = FailureLimits(allow_empty_input=True)
    description = RunDescription("2026-01-01T00:00:00+00:00", {}, "0" * 64, "float32", {}, limits, {})
    started = time.monotonic()
    plan = plan_commit(0, [*receipts, 25_000 * num_files, "all receipts are in"])
    build_manifest(plan, WriteOptions("/r", "run", "attempt"), description).to_bytes()
    return (time.monotonic() - started) / num_files


def run_seconds(
    num_documents: float, num_workers: int, num_spans: int, costs: Costs, seed: int = 1
) -> tuple[float, float, float]:
    """Simulates a run; returns the seconds to the last split, of waiting for it, and of the commit."""
    chance = random.Random(seed)
    free = [costs.a_start * chance.uniform(0.8, 1.2) for _ in range(num_workers)]
    heapq.heapify(free)
    files_a_span = max(num_documents / num_spans * costs.a_document / 60, 1.0)  # --checkpoint_seconds 60
    work = 0.0
    for _ in range(num_spans):
        seconds = num_documents / num_spans * costs.a_document * chance.gauss(1, costs.spread)
        work += seconds
        heapq.heapreplace(free, free[0] + max(seconds, 0.0))
    ended = max(free)
    num_files = files_a_span * num_spans
    end = num_files * (costs.a_file + costs.a_listing / 1000 + costs.a_move / num_workers)
    return ended, max(ended - costs.a_start - work / num_workers, 0.0), end


def main() -> int:
    """Prints the table of docs/explanation/scaling.md."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--documents", type=float, default=1e9)
    parser.add_argument("--spans", type=int, default=24_000, help="number of splits, of 64 MB of text each")
    given = parser.parse_args()
    costs = Costs(a_file=commit_seconds_a_file())
    print(f"commit: {1e6 * costs.a_file:.0f} µs per file\n")
    print(
        "| workers | hours | speed-up | of ideal | start | last span | end |\n|---|---|---|---|---|---|---|"
    )
    alone, _, alone_end = run_seconds(given.documents, 1, given.spans, costs)
    for number in _WORKERS:
        ended, waiting, end = run_seconds(given.documents, number, given.spans, costs)
        speed_up = (alone + alone_end) / (ended + end)
        cells = (number, f"{(ended + end) / 3600:,.2f}", f"{speed_up:,.0f}", f"{speed_up / number:.1%}",
                 f"{costs.a_start:.0f} s", f"{waiting:.0f} s", f"{end:.0f} s")  # fmt: skip
        print(f"| {' | '.join(map(str, cells))} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
