"""Worker processes of a pool: started and stopped by their engine's requests, reaped when they end."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Lock, Thread
from typing import Any

# What Beam's own pool allows a worker between SIGTERM and SIGKILL.
_GRACE_SECONDS = 10.0


@dataclass(frozen=True)
class WorkerKey:
    """What tells workers apart: engines that share a pool use the same names, never the same endpoint."""

    name: str
    endpoint: str


@dataclass(frozen=True)
class _Worker:
    process: subprocess.Popen[str]
    reaper: Thread


# A message and its facts.
Report = Callable[[str, dict[str, Any]], None]


class WorkerProcesses:
    """The processes of a pool.

    A request to stop carries a name and no endpoint. Where two endpoints have ever used a name, it could mean
    the worker of another engine, so nothing is killed: an engine closes a worker's control stream before it
    asks the pool, and with that the worker ends by itself.

    Args:
        command: returns the command line of a worker.
        report: called for every start and end, and for every line that a worker prints.
        grace_seconds: between SIGTERM and SIGKILL.
    """

    def __init__(
        self,
        command: Callable[[WorkerKey], Sequence[str]],
        report: Report,
        grace_seconds: float = _GRACE_SECONDS,
    ) -> None:
        self._command = command
        self._report = report
        self._grace_seconds = grace_seconds
        self._lock = Lock()
        self._running: dict[WorkerKey, _Worker] = {}
        self._endpoints: dict[str, set[str]] = {}
        self._is_closed = False

    @property
    def is_stopping(self) -> bool:
        """Whether no more workers are started."""
        with self._lock:
            return self._is_closed

    def running(self) -> dict[WorkerKey, int]:
        """Returns the process ids of the workers that have not ended."""
        with self._lock:
            return {key: worker.process.pid for key, worker in self._running.items()}

    def start(self, key: WorkerKey) -> None:
        """Starts a worker; one that is running already is left alone, as a request may come twice.

        Raises:
            RuntimeError: the pool is being stopped.
            OSError: the process cannot be started.
        """
        with self._lock:
            if self._is_closed:
                raise RuntimeError("The pool is being stopped and starts no worker.")
            self._endpoints.setdefault(key.name, set()).add(key.endpoint)
            known = self._running.get(key)
            if known is not None and known.process.poll() is None:
                return
            process = subprocess.Popen(
                self._command(key),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
            )
            worker = _Worker(process, Thread(target=self._reap, args=(key, process), daemon=True))
            self._running[key] = worker
            worker.reaper.start()
        self._report(f"worker {key.name} of {key.endpoint} started", _facts(key, process))
        # Apart from reaping: a child of a worker may keep its output open after the worker has ended.
        Thread(target=self._forward_output, args=(key, process), daemon=True).start()

    def stop(self, name: str) -> bool:
        """Stops the worker of a name and waits until it has ended; False if the name is ambiguous."""
        with self._lock:
            endpoints = self._endpoints.get(name, set())
            found = [worker for key, worker in self._running.items() if key.name == name]
        if len(endpoints) > 1:
            facts = {"worker_id": name, "control_endpoints": sorted(endpoints)}
            self._report(f"worker {name} not stopped: engines share the name; it ends with its engine", facts)
            return False
        self._end(found)
        return True

    def stop_all(self) -> None:
        """Starts no more workers, stops all and waits until they have ended."""
        with self._lock:
            self._is_closed = True
            found = list(self._running.values())
        self._end(found)

    def _end(self, workers: Sequence[_Worker]) -> None:
        for worker in workers:
            worker.process.terminate()
        for worker in workers:
            worker.reaper.join(self._grace_seconds)
            if worker.reaper.is_alive():
                worker.process.kill()
                worker.reaper.join()

    def _forward_output(self, key: WorkerKey, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                self._report(line.rstrip("\n"), _facts(key, process))

    def _reap(self, key: WorkerKey, process: subprocess.Popen[str]) -> None:
        code = process.wait()
        facts = _facts(key, process) | {"exit_code": code}
        self._report(f"worker {key.name} of {key.endpoint} ended with code {code}", facts)
        with self._lock:
            if self._running[key].process is process:  # else it has a successor
                del self._running[key]


def _facts(key: WorkerKey, process: subprocess.Popen[str]) -> dict[str, Any]:
    return {"worker_id": key.name, "control_endpoint": key.endpoint, "pid": process.pid}
