"""The engines that a job can run on here, and what it takes to have them."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.support.runs.jobs import PROJECT

# By the name that the table of docs/reference/conformance.md gives them.
ENGINES = ("in-process", "multi-process", "Prism", "Prism, worker pool", "Flink")


@cache
def find_prism() -> str:
    """Returns Prism's binary, built where it is not there; skips, saying so, where it cannot be had."""
    if shutil.which("go") is None and "PRISM_LOCATION" not in os.environ:
        pytest.skip("Prism is not on this machine and there is no Go to build it (launch/prism/install.sh)")
    if "PRISM_LOCATION" in os.environ:
        return os.environ["PRISM_LOCATION"]
    built = subprocess.run([PROJECT / "launch/prism/install.sh"], capture_output=True, text=True, check=False)
    if built.returncode == 69:
        pytest.skip(f"Prism could not be had: {built.stderr[-300:]}")
    assert built.returncode == 0, built.stderr
    return built.stdout.strip()


def flink_flags() -> list[str]:
    """Returns the flags for a Flink cluster that the environment names; skips, saying so, without one."""
    names = ("FLINK_JOB_ENDPOINT", "FLINK_WORKER_POOL")
    if not all(name in os.environ for name in names):
        pytest.skip(f"no Flink: {' and '.join(names)} are not set (launch/flink/cluster.sh)")
    endpoint, pool = (os.environ[name] for name in names)
    flags = ["--runner", "PortableRunner", "--job_endpoint", endpoint, "--parallelism", "2"]
    return [*flags, "--environment_type", "EXTERNAL", "--environment_config", pool]


def find_flink(entry_class: str) -> list[int]:
    """Returns the processes of this machine that run one of Flink's entry classes."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = path.read_bytes().split(b"\0")
            if any(word.decode(errors="replace").endswith(f".{entry_class}") for word in words):
                found.append(int(path.parent.name))
    return found


@contextlib.contextmanager
def engine_flags(engine: str) -> Iterator[list[str]]:
    """Returns the flags that send a job to an engine; what it needs is there while inside."""
    if engine == "in-process":
        yield []
    elif engine == "multi-process":
        yield ["--direct_running_mode", "multi_processing", "--direct_num_workers", "2"]
    elif engine == "Flink":
        yield flink_flags()
    elif engine == "Prism":
        yield ["--runner", "PrismRunner", "--prism_location", find_prism()]
    else:
        with worker_pool() as (address, _):
            flags = ["--runner", "PrismRunner", "--prism_location", find_prism()]
            yield [*flags, "--environment_type", "EXTERNAL", "--environment_config", address]


@contextlib.contextmanager
def worker_pool() -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Starts a pool as a process of its own; its address, and the process."""
    pool = subprocess.Popen(
        [sys.executable, "-m", "beam_jobs.worker_pool", "--service_port", "0"],
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    try:
        assert pool.stdout is not None
        address = pool.stdout.readline().removeprefix("worker pool at ").strip()
        assert address, "the pool did not start"
        yield address, pool
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pool.pid, signal.SIGKILL)  # its workers, too
        pool.wait()
        if pool.stdout is not None:
            pool.stdout.close()


def descendants(pid: int) -> dict[int, str]:
    """Returns the processes that a process started, and theirs, with their command lines."""
    found: dict[int, str] = {}
    for tasks in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in map(int, tasks.read_text().split()):
                words = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
                found[child] = b" ".join(words).decode(errors="replace")
                found |= descendants(child)
    return found
