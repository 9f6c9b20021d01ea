"""Work that several tests need, done once per test run, also where two processes share the run."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest


def build_once(factory: pytest.TempPathFactory, name: str, build: Callable[[Path], object]) -> Path:
    """Returns the folder ``name``, which the first process that asks for it builds.

    Other processes of the run wait, and take it as it is. It belongs to all tests: none may change it.

    Args:
        factory: gives the folder of this test run.
        name: says what made the content; whoever passes the same name gets the same folder.
        build: creates the folder that it is given. What a failed build left behind is removed.
    """
    shared = run_folder(factory) / "shared"
    shared.mkdir(exist_ok=True)
    folder, done = shared / name, shared / f"{name}.done"
    with (shared / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            build(folder)
            done.touch()
    return folder


def run_folder(factory: pytest.TempPathFactory) -> Path:
    """Returns the folder of the whole run; each process of pytest-xdist has one of its own below it."""
    own = factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
