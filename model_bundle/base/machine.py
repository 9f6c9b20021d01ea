"""Cores, memory, instructions and fast number formats of this machine."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
from pathlib import Path

_CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
# Source: the flags Linux gives processors with tile or vector instructions for bfloat16.
_BFLOAT16_FLAGS = frozenset({"amx_bf16", "avx512_bf16"})
# The same for 8-bit integers.
_INT8_FLAGS = frozenset({"amx_int8", "avx512_vnni", "avx_vnni"})


def num_cores() -> int:
    """Counts the cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_bytes() -> int:
    """Returns the memory this process may use: the smaller of the host's and the container's."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for name in _CGROUP_LIMITS:
        try:
            limits.append(int(Path(name).read_text()))
        except (OSError, ValueError):
            continue  # no such file, or "max": this source sets no limit
    return min(limits)


def cpu_name() -> str:
    """Returns the processor's name, or its architecture where the system does not report a name."""
    return _cpuinfo().get("model name", os.uname().machine)


def has_fast_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 in hardware; otherwise it is slower than float32."""
    return not _BFLOAT16_FLAGS.isdisjoint(_flags())


def has_fast_int8() -> bool:
    """Whether the processor adds products of 8-bit integers in hardware, which also cannot saturate."""
    return not _INT8_FLAGS.isdisjoint(_flags())


def has_fast_int7() -> bool:
    """Whether the processor multiplies 8-bit integers in vectors; sums of 7-bit weights cannot saturate."""
    return "avx2" in _flags()


def instruction_set() -> str:
    """Returns the best instructions for matrix products: amx, avx512_bf16, avx512, avx2, or none (empty)."""
    flags = set(_cpuinfo().get("flags", "").split())
    known = {"amx": "amx_bf16", "avx512_bf16": "avx512_bf16", "avx512": "avx512f", "avx2": "avx2"}
    return next((name for name, flag in known.items() if flag in flags), "")


def peak_memory_bytes() -> int:
    """Returns the peak memory of this process and its children; 0 where the system does not report it.

    Not from ``getrusage``: on Linux it includes what the parent had when it started the process.
    """
    return sum(map(_peak_bytes, ["self", *_children()]))


def _peak_bytes(process: str) -> int:
    try:
        status = Path(f"/proc/{process}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024
    except (OSError, IndexError):  # no such file, or a process that has ended
        return 0


def _children() -> list[str]:
    children: list[str] = []
    for tasks in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):
            children += tasks.read_text().split()
    return children


def release_free_memory(*, collect: bool = False) -> None:
    """Returns freed memory to the operating system; preparing a model leaves hundreds of megabytes.

    Args:
        collect: run the garbage collector first: unused graphs are reference cycles. It takes some tenths of
            a second.
    """
    if collect:
        gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # only the GNU C library can
        ctypes.CDLL(None).malloc_trim(0)


def _flags() -> list[str]:
    return _cpuinfo().get("flags", "").split()


def _cpuinfo() -> dict[str, str]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return {}
    pairs = (line.split(":", 1) for line in lines if ":" in line)
    found: dict[str, str] = {}
    for key, value in pairs:
        found.setdefault(key.strip(), value.strip())
    return found
