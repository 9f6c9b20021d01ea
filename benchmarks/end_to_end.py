"""Measures text to Parquet: whole commands in fresh processes, with start-up reported separately."""

from __future__ import annotations

import dataclasses
import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.corpus import Corpus
from benchmarks.processes import Timed, run_timed
from benchmarks.registry import Job
from benchmarks.worker import Worker

# Sleep before each command, to let background work of the previous one finish.
_PAUSE_SECONDS = 2.0
_MANIFEST = "*/manifest.json"


@dataclass(frozen=True)
class JobInput:
    """Files with all documents and with one; the time for one document is the start-up."""

    all_lines: Path
    one_line: Path

    @classmethod
    def write(cls, corpus: Corpus, work: Path) -> JobInput:
        """Writes both files."""
        one = corpus.repeated(1).write_lines(work / "one_document.txt")
        return cls(corpus.write_lines(work / "documents.txt"), one)


def measure_job(job: Job, lines: JobInput, work: Path) -> dict[str, Any]:
    """Runs a job on one document and on all; leaves the rows in ``work/NAME``.

    Returns:
        ``seconds``: the second run without start-up. ``startup_seconds``: the first run. ``commit_seconds``:
        the second run until its manifest was written, minus the same for the first; None without a
        manifest. ``manifest`` has its counts.
    """
    startup, startup_commit = run_job(job, lines.one_line, work)
    run, commit = run_job(job, lines.all_lines, work)
    measured = dataclasses.asdict(run)
    del measured["output"]
    measured["startup_seconds"] = startup.wall_seconds
    measured["seconds"] = run.wall_seconds - startup.wall_seconds
    measured["commit_seconds"] = commit - startup_commit if commit and startup_commit else None
    measured["manifest"] = read_manifest(work / job.name)
    return measured


def run_job(job: Job, lines: Path, work: Path) -> tuple[Timed, float | None]:
    """Runs a job once; also returns the seconds until its manifest was written."""
    folder = work / job.name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    time.sleep(_PAUSE_SECONDS)
    started = time.time()
    timed = run_timed(job.command(lines, folder), work / f"{job.name}.log")
    written = [path.stat().st_mtime - started for path in folder.glob(_MANIFEST)]
    return timed, written[0] if written else None


def run_job_rounds(
    jobs: Sequence[Job], loops: Mapping[str, Worker], lines: JobInput, num_rounds: int, work: Path
) -> dict[str, list[dict[str, Any]]]:
    """Measures jobs in turns A B C, A B C, …; each of ours right after the loop it is compared with.

    Args:
        loops: our own model loops, by precision; they sleep while a job runs.
        work: holds the output of each job's last round when this returns.

    Returns:
        Rounds by the name of the job, and by ``loop_PRECISION``.
    """
    measured: dict[str, list[dict[str, Any]]] = {}
    for number in range(num_rounds):
        for job in jobs:
            precision = job.name.removeprefix("job_")
            if precision in loops:
                measured.setdefault(f"loop_{precision}", []).append(loops[precision].measure())
            measured.setdefault(job.name, []).append(measure_job(job, lines, work))
            last = measured[job.name][-1]
            print(
                f"round {number + 1}: {job.label} {last['seconds']:.1f} s + start-up "
                f"{last['startup_seconds']:.1f} s",
                flush=True,
            )
    return measured


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """Returns the counts and file sizes of a run of ours; None for other output."""
    for path in folder.glob(_MANIFEST):
        manifest = json.loads(path.read_text(encoding="utf-8"))
        return {"counts": manifest["counts"], "files": manifest["files"]}
    return None
