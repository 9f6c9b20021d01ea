"""Traces the smallest job: how many files of the packages it enters, over how many steps from file to file.

``python tools/trace_job.py [--steps]`` embeds two lines with the defaults and counts the functions that are
called meanwhile, imports apart. A step is a pair of files of which one calls the other, however often and
whatever library code lies between them. ``--steps`` prints every pair.
"""

from __future__ import annotations

import argparse
import contextlib
import inspect
import io
import sys
import tempfile
import threading
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
_PACKAGES = tuple(f"{ROOT / name}/" for name in ("beam_jobs", "model_bundle"))
_TEXTS = "A cat sat on the mat.\nDogs run home, quickly.\n"


class Tracer:
    """Notes the files whose functions are called, and from which file of the packages each was reached."""

    def __init__(self) -> None:
        self.files: set[str] = set()
        self.steps: set[tuple[str, str]] = set()

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        """Is called by Python at every call; see ``sys.setprofile``."""
        del argument
        callee = frame.f_code.co_filename
        is_function = frame.f_code.co_flags & inspect.CO_OPTIMIZED  # the body of a module or class is none
        if event != "call" or not is_function or not callee.startswith(_PACKAGES):
            return
        self.files.add(callee)
        caller = frame.f_back
        while caller is not None and not caller.f_code.co_filename.startswith(_PACKAGES):
            caller = caller.f_back
        if caller is not None and caller.f_code.co_filename != callee:
            self.steps.add((caller.f_code.co_filename, callee))


def trace(folder: Path) -> Tracer:
    """Runs the smallest job below a folder and returns what it entered.

    Raises:
        SystemExit: the job failed.
    """
    from beam_jobs.embed import main

    texts = folder / "two.txt"
    texts.write_text(_TEXTS, encoding="utf-8")
    tracer, said = Tracer(), io.StringIO()
    threading.setprofile(tracer)
    sys.setprofile(tracer)
    try:
        with contextlib.redirect_stdout(said):
            code = main(["--runner", "DirectRunner", "--input", str(texts), "--output", str(folder / "out")])
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    if code:
        raise SystemExit(f"the job ended with {code}:\n{said.getvalue()}")
    return tracer


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", action="store_true", help="print every pair of files")
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        tracer = trace(Path(folder))
    if flags.steps:
        for caller, callee in sorted(tracer.steps):
            print(f"{Path(caller).relative_to(ROOT)} -> {Path(callee).relative_to(ROOT)}")
    print(f"{len(tracer.files)} files, {len(tracer.steps)} steps")


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
