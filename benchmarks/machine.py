"""Describes the machine and measures how busy other processes keep it."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

from model_bundle.base.machine import cpu_name, has_fast_bfloat16, memory_bytes, num_cores

# The instruction sets that determine the speed of matrix products.
_FLAGS = (
    "avx2",
    "avx512f",
    "avx512_bf16",
    "avx512_fp16",
    "avx512_vnni",
    "amx_bf16",
    "amx_int8",
    "asimd",
    "bf16",
)
_PACKAGES = ("apache-beam", "numpy", "pyarrow", "tensorflow", "tokenizers", "transformers")
_CPUINFO = Path("/proc/cpuinfo")
_STAT = Path("/proc/stat")


def describe_machine() -> dict[str, Any]:
    """Returns processor, instruction sets, memory and operating system."""
    words = set(_CPUINFO.read_text().split()) if _CPUINFO.is_file() else set()
    return {
        "cpu": cpu_name(),
        "num_cores": num_cores(),
        "flags": [flag for flag in _FLAGS if flag in words],
        "fast_bfloat16": has_fast_bfloat16(),
        "memory_bytes": memory_bytes(),
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def our_versions() -> dict[str, str]:
    """Returns the versions of the main dependencies."""
    return {name: version(name) for name in _PACKAGES}


@dataclass(frozen=True)
class BusySeconds:
    """Seconds that all cores have been busy since boot; None if the system does not report them."""

    seconds: float | None

    @classmethod
    def now(cls) -> Self:
        """Reads the system's counters."""
        if not _STAT.is_file():
            return cls(None)
        user, nice, system, _idle, _wait, irq, soft, steal = map(int, _STAT.read_text().split()[1:9])
        return cls((user + nice + system + irq + soft + steal) / os.sysconf("SC_CLK_TCK"))

    def others_since(self, cpu_seconds: float, wall_seconds: float) -> float | None:
        """Returns the share of the machine used by other processes: 0 is a quiet machine, 1 is all cores.

        Args:
            cpu_seconds: processor time of the measured process since then.
            wall_seconds: time since this snapshot.
        """
        now = BusySeconds.now().seconds
        if now is None or self.seconds is None:
            return None
        return max(now - self.seconds - cpu_seconds, 0.0) / (wall_seconds * (os.cpu_count() or 1))
