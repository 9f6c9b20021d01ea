"""Runs commands and measures their time, processor time and memory."""

from __future__ import annotations

import os
import resource
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.errors import BenchmarkError
from benchmarks.machine import BusySeconds
from benchmarks.systems.protocol import peak_memory_of
from benchmarks.worker import ROOT, environment

_LOOK_SECONDS = 0.05


@dataclass(frozen=True)
class Timed:
    """Cost of one run of a command. ``others_share``: share of the machine used by other processes."""

    wall_seconds: float
    cpu_seconds: float
    peak_memory_bytes: int
    others_share: float | None
    output: str


def run_timed(command: Sequence[str], log: Path) -> Timed:
    """Runs a command to its end.

    Args:
        command: program and arguments.
        log: where its standard error goes.

    Raises:
        BenchmarkError: the command failed; the message has the end of its log.
    """
    before, started = BusySeconds.now(), time.perf_counter()
    with log.open("wb") as errors, log.with_suffix(".out").open("w+b") as output:
        process = subprocess.Popen(command, stdout=output, stderr=errors, cwd=ROOT, env=environment())
        usage, peak = _wait(process)
        wall_seconds = time.perf_counter() - started
        output.seek(0)
        text = output.read().decode(errors="replace")
    if process.returncode:
        tail = log.read_text(errors="replace")[-2000:]
        raise BenchmarkError(
            f"{' '.join(command)} ended with {process.returncode}. Its log ends with:\n{tail}"
        )
    cpu_seconds = usage.ru_utime + usage.ru_stime
    others_share = before.others_since(cpu_seconds, wall_seconds)
    return Timed(wall_seconds, cpu_seconds, peak, others_share, text)


def _wait(process: subprocess.Popen[bytes]) -> tuple[resource.struct_rusage, int]:
    """Waits for a process; returns its usage, children included, and its peak memory.

    Memory is polled, because the system's own figure starts with the memory of the parent at the start of
    the process.
    """
    peak = 0
    try:
        while not (ended := os.wait4(process.pid, os.WNOHANG))[0]:
            peak = max(peak, peak_memory_of(process.pid))
            time.sleep(_LOOK_SECONDS)
    except BaseException:
        process.kill()
        process.wait()
        raise
    _, status, usage = ended
    process.returncode = os.waitstatus_to_exitcode(status)
    return usage, peak
