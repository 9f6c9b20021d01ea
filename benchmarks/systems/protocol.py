"""The measured side of a benchmark: serves requests in JSON lines, with the standard library only."""

from __future__ import annotations

import io
import json
import os
import resource
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TextIO

Command = Callable[[Mapping[str, Any]], Mapping[str, Any]]


def claim_stdout() -> TextIO:
    """Reserves standard output for answers and redirects all other output to standard error."""
    sys.stdout.flush()
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # what was printed is in the log when an error is read
    return answers


def serve(answers: TextIO, ready: Mapping[str, Any], commands: Mapping[str, Command]) -> None:
    """Reports that it is ready, then serves one request per line and blocks in between.

    A request is ``{"cmd": NAME, …}``; the answer is one line, ``{"error": …}`` if the command raised. Ends
    when standard input does, so that no process outlives who started it.
    """
    _answer(answers, ready)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            reply = commands[request["cmd"]](request)
        except Exception:  # whatever it was, the other side must hear of it
            reply = {"error": traceback.format_exc()}
        _answer(answers, reply)


def peak_memory_bytes() -> int:
    """Returns the peak resident memory of this process in bytes."""
    if Path("/proc/self/status").is_file():
        return peak_memory_of(os.getpid())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # macOS: bytes


def peak_memory_of(pid: int) -> int:
    """Returns the peak resident memory of a process in bytes; 0 if it is gone or the system is not Linux.

    Not from ``getrusage``: Linux counts there what the parent had when it started the process.
    """
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    fields = dict(line.split(":", 1) for line in lines)
    return int(fields.get("VmHWM", "0 kB").split()[0]) * 1024


def _answer(answers: TextIO, reply: Mapping[str, Any]) -> None:
    answers.write(json.dumps(reply) + "\n")
    answers.flush()
