"""Faults at random moments, and a job that goes on until its run is there."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow.parquet as pq

from tests.support.faults.engines import descendants, find_flink, find_prism, flink_flags, worker_pool
from tests.support.runs.jobs import PROJECT, start_job

_START_SECONDS = 240
_CLEAR = ("The job failed and wrote no run", "cannot be written", "Stopped by")


@dataclass
class Place:
    """A job that is running, and its pool where it has one."""

    job: subprocess.Popen[str]
    pool: subprocess.Popen[str] | None

    def find(self, *marks: str) -> list[int]:
        """Returns the processes of either whose command line holds a mark."""
        pids = descendants(self.job.pid) | (descendants(self.pool.pid) if self.pool else {})
        return [
            pid for pid, line in pids.items() if any(mark in line for mark in marks) and "/bin/sh" not in line
        ]


@dataclass
class Tally:
    """What was done to a run, and what came of it."""

    faults: list[str] = field(default_factory=list)
    starts: int = 0
    unclear: list[str] = field(default_factory=list)


def kill_worker(place: Place) -> bool:
    """Kills a process that runs Beam's work."""
    return _signal(place.find("sdk_worker_main", "SdkHarness"), signal.SIGKILL)


def kill_model(place: Place) -> bool:
    """Kills the child that has the model."""
    return _signal(place.find("isolated_child"), signal.SIGKILL)


def kill_engine(place: Place) -> bool:
    """Kills the process that gives out the work: what a JobManager is to Flink."""
    return _signal(place.find("--job_port"), signal.SIGKILL)


def kill_launcher(place: Place) -> bool:
    """Kills the process that the user started, with its children, as a machine that goes away does."""
    pids = [*descendants(place.job.pid), place.job.pid]
    for pid in pids:
        _signal([pid], signal.SIGKILL)
    return True


def kill_pool(place: Place) -> bool:
    """Kills a pool with its workers."""
    if place.pool is None:
        return False
    os.killpg(place.pool.pid, signal.SIGKILL)
    return True


def kill_taskmanager(place: Place) -> bool:
    """Kills one of Flink's TaskManagers; the cluster's script starts it again."""
    del place
    return _kill_and_restart("TaskManagerRunner")


def kill_jobmanager(place: Place) -> bool:
    """Kills Flink's JobManager; the cluster's script starts it again."""
    del place
    return _kill_and_restart("StandaloneSessionClusterEntrypoint")


def _kill_and_restart(entry_class: str) -> bool:
    killed = _signal(find_flink(entry_class), signal.SIGKILL)
    if killed:
        time.sleep(1)  # the script looks for the process
        subprocess.run([PROJECT / "launch" / "flink" / "cluster.sh", "start"], check=True)
    return killed


def stop_worker(place: Place) -> bool:
    """Slows a worker down: it stands still for three seconds."""
    pids = place.find("sdk_worker_main", "SdkHarness", "isolated_child")
    if not _signal(pids, signal.SIGSTOP):
        return False
    time.sleep(3)
    return _signal(pids, signal.SIGCONT)


Fault = Callable[[Place], bool]


def run_with_faults(
    output: Path,
    bundle: Path,
    flags: list[str],
    engine: str,
    faults: list[Fault],
    seed: int,
    delay: float = 1.5,
) -> Tally:
    """Runs a job on an engine, one fault after the other, and starts it again until its run is finished.

    A fault comes at most ``delay`` seconds after the job has written another file.
    """
    chance, tally, waiting = random.Random(seed), Tally(), list(faults)
    while not (output / "run" / "manifest.json").exists():
        tally.starts += 1
        assert tally.starts <= len(faults) + 2, "the job does not end"
        with _started(output, bundle, flags, engine) as place:
            known = _staged(output)
            while place.job.poll() is None and waiting:
                if not _goes_on(place, output, known):
                    break
                time.sleep(chance.uniform(0, delay))
                if place.job.poll() is None and waiting[0](place):
                    tally.faults.append(waiting.pop(0).__name__)
                known = _staged(output)
            _, said = place.job.communicate(timeout=_START_SECONDS)
        ended_by_us = place.job.returncode == -signal.SIGKILL
        if place.job.returncode != 0 and not ended_by_us and not any(mark in said for mark in _CLEAR):
            tally.unclear.append(said[-2000:])
    return tally


@contextlib.contextmanager
def _started(output: Path, bundle: Path, flags: list[str], engine: str) -> Iterator[Place]:
    own: list[str] = []
    with contextlib.ExitStack() as stack:
        pool = None
        if engine == "multi-process":
            own = ["--direct_running_mode", "multi_processing", "--direct_num_workers", "2"]
        elif engine == "Flink":
            own = flink_flags()
        elif engine != "in-process":
            own = ["--runner", "PrismRunner", "--prism_location", find_prism()]
        if engine == "Prism, worker pool":
            address, pool = stack.enter_context(worker_pool())
            own += ["--environment_type", "EXTERNAL", "--environment_config", address]
        job = start_job(output, bundle, *flags, "--run_id", "run", *own)
        try:
            yield Place(job, pool)
        finally:
            for pid in [*descendants(job.pid), job.pid]:
                _signal([pid], signal.SIGKILL)
            job.wait()


def _goes_on(place: Place, output: Path, known: set[Path]) -> bool:
    """Waits until the job has written something new; False if it ended first."""
    deadline = time.monotonic() + _START_SECONDS
    while _staged(output) <= known:
        if place.job.poll() is not None or time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _staged(output: Path) -> set[Path]:
    return set((output / "run" / "_staging").glob("*.parquet"))


def _signal(pids: list[int], number: signal.Signals) -> bool:
    sent = False
    for pid in pids[:1]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
            sent = True
    return sent


def ids_and_vectors(root: Path) -> tuple[list[str], list[list[float]]]:
    """Reads what a reader sees of a run, in the order of ids."""
    rows = [
        pq.read_table(path, columns=["doc_id", "embedding"])
        for path in (root / "embeddings").glob("*.parquet")
    ]
    pairs = [pair for table in rows for pair in zip(*(c.to_pylist() for c in table.columns), strict=True)]
    pairs.sort(key=lambda pair: int(pair[0]))
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]
