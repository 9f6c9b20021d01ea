"""The measuring side of a benchmark: drives systems in processes that block between requests."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.errors import BenchmarkError
from benchmarks.machine import BusySeconds

ROOT = Path(__file__).parents[1]
_STOP_SECONDS = 20
# What PyTorch calls the instructions that oneDNN calls so.
_TORCH = {"AVX2": "avx2", "AVX512_CORE": "avx512"}
HELD_TO = tuple(_TORCH)


@dataclass(frozen=True)
class System:
    """Something to measure: its command and its label in tables."""

    name: str
    label: str
    command: tuple[str, ...]


def environment(held_to: str | None = None) -> dict[str, str]:
    """Returns the environment of measured processes: quiet, offline, with this checkout on the path.

    Args:
        held_to: the best instructions that oneDNN and PyTorch may use, as oneDNN names them; None for all.
    """
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "2", "HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "ignore"}
    # transformers looks for Keras 2 where TensorFlow is installed, too.
    quiet["USE_TF"] = "0"
    if held_to is not None:
        quiet |= {"ONEDNN_MAX_CPU_ISA": held_to, "OV_CPU_MAX_ISA": held_to}
        quiet["ATEN_CPU_CAPABILITY"] = _TORCH[held_to]
    return {**os.environ, **quiet, "PYTHONPATH": str(ROOT)}


class Worker:
    """The process of a system.

    Args:
        system: what to start; it must speak ``benchmarks.systems.protocol``.
        log: where its standard error goes.
        held_to: see ``environment``.

    Raises:
        BenchmarkError: it ended or reported an error; the message has the end of its log.
    """

    def __init__(self, system: System, log: Path, held_to: str | None = None) -> None:
        self.system = system
        self._log = log
        with log.open("wb") as errors:
            self._process = subprocess.Popen(
                system.command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                cwd=ROOT,
                env=environment(held_to),
            )
        try:
            self.ready = self._read()
        except BaseException:
            self.close()
            raise

    def ask(self, cmd: str, **fields: str) -> dict[str, Any]:
        """Sends one request and waits for its answer."""
        stdin = self._process.stdin
        if stdin is None:
            raise AssertionError("the process was started with pipes")
        stdin.write(json.dumps({"cmd": cmd, **fields}) + "\n")
        stdin.flush()
        return self._read()

    def measure(self) -> dict[str, Any]:
        """Requests one pass; adds ``others_share``, the share of the machine used by other processes."""
        before, started = BusySeconds.now(), time.perf_counter()
        answer = self.ask("encode")
        wall_seconds = time.perf_counter() - started
        answer["others_share"] = before.others_since(answer["cpu_seconds"], wall_seconds)
        return answer

    def close(self) -> None:
        """Ends the process by closing its input, or kills it if that does not work."""
        with self._process as process:
            if process.stdin is not None:
                process.stdin.close()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()

    def _read(self) -> dict[str, Any]:
        line = self._process.stdout.readline() if self._process.stdout else ""
        answer: dict[str, Any] = json.loads(line) if line else {"error": "the process ended"}
        if "error" in answer:
            tail = self._log.read_text(errors="replace")[-2000:]
            raise BenchmarkError(
                f"{self.system.label} could not be measured: {answer['error']}\n"
                f"Command: {' '.join(self.system.command)}\nIts log ends with:\n{tail}"
            )
        return answer


@contextmanager
def started(systems: Sequence[System], logs: Path, held_to: str | None = None) -> Iterator[dict[str, Worker]]:
    """Starts systems one after another, to not slow each other's set-up; returns them by name."""
    with ExitStack() as stack:
        workers: dict[str, Worker] = {}
        for system in systems:
            print(f"starting {system.label} …", flush=True)
            worker = Worker(system, logs / f"{system.name}.log", held_to)
            stack.callback(worker.close)
            workers[system.name] = worker
            print(f"  {worker.ready.get('details', {}).get('setting', 'ready')}", flush=True)
        yield workers


def run_rounds(
    workers: Mapping[str, Worker], num_rounds: int, *, pause_seconds: float = 1.0
) -> dict[str, list[dict[str, Any]]]:
    """Measures in turns A B C, A B C, …, so that slow changes of the machine affect all systems.

    The pause lets threads of the previous system, which may spin after work, go to sleep.
    """
    measured: dict[str, list[dict[str, Any]]] = {name: [] for name in workers}
    for number in range(num_rounds):
        for name, worker in workers.items():
            time.sleep(pause_seconds)
            answer = worker.measure()
            measured[name].append(answer)
            others = answer["others_share"]
            noise = "" if others is None else f", others {others:.0%}"
            print(f"round {number + 1}: {worker.system.label} {answer['seconds']:.2f} s{noise}", flush=True)
    return measured
