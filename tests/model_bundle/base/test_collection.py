"""What is imported for good is not walked by the garbage collector; what was garbage before is freed."""

from __future__ import annotations

import contextlib
import gc
import subprocess
import sys
import weakref

import pytest

from model_bundle.base.collection import importing_for_good


class _Node:
    def __init__(self) -> None:
        self.itself = self


@pytest.mark.parametrize("was_enabled", [True, False])
def test_what_is_made_meanwhile_is_exempt_and_garbage_of_before_is_freed(was_enabled: bool) -> None:
    gone = weakref.ref(_Node())
    (gc.enable if was_enabled else gc.disable)()
    try:
        with contextlib.suppress(ImportError), importing_for_good():
            assert gone() is None
            assert not gc.isenabled()
            made = [[i] for i in range(1000)]
            raise ImportError("half of it")
        assert gc.isenabled() == was_enabled
        assert gc.get_freeze_count() >= len(made)
        assert not any(known is made for known in gc.get_objects())
        later = weakref.ref(_Node())
        gc.collect()
        assert later() is None  # cycles are still found
    finally:
        gc.unfreeze()
        gc.enable()


@pytest.mark.slow
def test_what_tensorflow_imports_is_not_walked() -> None:
    code = (
        "import gc\n"
        "from model_bundle.runtime.tensorflow_setup import import_tensorflow\n"
        "import_tensorflow()\n"
        "print(len(gc.get_objects()), gc.isenabled())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seen, enabled = done.stdout.split()
    assert int(seen) < 20_000  # of 400,000 and more
    assert enabled == "True"


@pytest.mark.parametrize(("name", "is_ours"), [("beam_jobs.embed", True), ("pytest.__main__", False)])
def test_a_command_does_not_look_for_garbage_when_it_ends(name: str, is_ours: bool) -> None:
    code = (
        "import atexit, gc, sys\n"
        "from importlib.machinery import ModuleSpec\n"
        f"sys.modules['__main__'].__spec__ = ModuleSpec({name!r}, None)\n"
        "atexit.register(lambda: print(len(gc.get_objects())))\n"  # runs after what is registered later
        "from model_bundle.base.command import run_command\n"
        "run_command(lambda: 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (int(done.stdout) < 100) == is_ours


def test_a_program_that_runs_a_command_is_left_as_it_was() -> None:
    """DuckDB prints what of its own was never freed, if the collector is kept from it at the end."""
    pytest.importorskip("duckdb")
    code = (
        "import duckdb\n"
        "from model_bundle.base.command import run_command\n"
        "run_command(lambda: 0)\n"
        "duckdb.sql('SELECT 1').fetchall()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


@pytest.mark.parametrize("imports", ["duckdb", "beam_jobs.search.searcher"])
def test_a_command_that_used_duckdb_ends_without_a_word(imports: str) -> None:
    # Its bindings print a page if objects are left when the interpreter ends.
    code = (
        f"import {imports}\n"
        "from model_bundle.base.collection import skip_collection_at_exit\n"
        "skip_collection_at_exit()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""
