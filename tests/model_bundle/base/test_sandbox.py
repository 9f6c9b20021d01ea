"""A confined process reaches nothing: by the sandbox alone, with no scan before it."""

from __future__ import annotations

import ctypes
import os
import re
import resource
import socket
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from model_bundle.base import sandbox
from model_bundle.base.confined import run_confined
from model_bundle.base.sandbox import Limits, missing_line
from model_bundle.base.system_calls import refused_calls, seccomp_filter
from model_bundle.errors import BundleFormatError, ModelCrashError, SettingsError

DENIED = "PermissionError"


def landlock_version() -> int:
    system = ctypes.CDLL(None)
    return int(system.syscall(444, None, ctypes.c_size_t(0), ctypes.c_uint(1)))


needs_landlock = pytest.mark.skipif(landlock_version() < 3, reason="this kernel has no Landlock to try")


def outcomes(tries: dict[str, Callable[[], Any]]) -> dict[str, str]:
    found = {}
    for name, attempt in tries.items():
        try:
            attempt()
            found[name] = "done"
        except OSError as error:
            found[name] = type(error).__name__
    return found


def reach_out(outside: str, own: str, port: int) -> dict[str, str]:
    """Tries everything; runs in the confined process."""
    secret, mine = Path(outside, "secret"), Path(own, "mine")

    def thread() -> None:
        started = threading.Thread(target=int)
        started.start()
        started.join()

    return outcomes(
        {
            "write in its folder": lambda: mine.write_text("x"),
            "read in its folder": mine.read_text,
            "read a library": lambda: Path(os.__file__).read_bytes(),
            "start a thread": thread,
            "read": secret.read_text,
            "write": lambda: Path(outside, "new").write_text("x"),
            "append": lambda: secret.open("a").close(),
            "truncate": lambda: os.truncate(secret, 0),
            "remove": secret.unlink,
            "make a folder": lambda: Path(outside, "folder").mkdir(),
            "link": lambda: os.link(secret, Path(own, "link")),
            "move out": lambda: mine.rename(Path(outside, "moved")),
            "change rights": lambda: secret.chmod(0o777),
            "change times": lambda: os.utime(secret),
            "read its own environment": lambda: Path("/proc/self/environ").read_bytes(),
            "connect": lambda: socket.create_connection(("127.0.0.1", port), 1).close(),
            "open a socket": lambda: socket.socket(socket.AF_UNIX).close(),
            "start a program": lambda: subprocess.run(["true"], check=False),
            "replace itself": lambda: os.execv("/bin/true", ["true"]),
            "fork": os.fork,
            "signal another": lambda: os.kill(os.getppid(), 0),
            "limit another": lambda: resource.prlimit(os.getppid(), resource.RLIMIT_CORE, (0, 0)),
            "limit itself": lambda: resource.setrlimit(resource.RLIMIT_CORE, (0, 0)),
        }
    )


@needs_landlock
def test_it_reaches_nothing_outside(tmp_path: Path) -> None:
    outside, own = tmp_path / "outside", tmp_path / "own"
    outside.mkdir()
    own.mkdir()
    (outside / "secret").write_text("secret")
    with socket.create_server(("127.0.0.1", 0)) as server:
        found = run_confined(Limits(own), reach_out, str(outside), str(own), server.getsockname()[1])
    allowed = [
        "write in its folder",
        "read in its folder",
        "read a library",
        "start a thread",
        "limit itself",
    ]
    assert found.pop("link") in (DENIED, "OSError")  # Landlock says EXDEV, as between file systems
    assert found == {name: "done" if name in allowed else DENIED for name in found}
    assert len(found) >= 20
    assert [path.read_text() for path in outside.iterdir()] == ["secret"]
    assert (own / "mine").exists()


def read_two(readable: str, listed: str) -> dict[str, str]:
    return outcomes(
        {
            "read": Path(readable, "file").read_text,
            "write": lambda: Path(readable, "file").write_text("x"),
            "list": lambda: list(Path(listed).iterdir()),
            "read in the listed": Path(listed, "file").read_text,
        }
    )


@needs_landlock
def test_it_reads_what_it_is_given_and_lists_what_it_may_list(tmp_path: Path) -> None:
    for name in ("own", "readable", "listed"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("x")
    limits = Limits(tmp_path / "own", (tmp_path / "readable",), (tmp_path / "listed",))
    found = run_confined(limits, read_two, str(tmp_path / "readable"), str(tmp_path / "listed"))
    assert found == {"read": "done", "write": DENIED, "list": "done", "read in the listed": DENIED}


def load_unscanned(paths: list[str]) -> dict[str, str]:
    """Loads and calls models as TensorFlow does, and returns how each ended."""
    import tensorflow as tf

    found = {}
    for path in paths:
        try:
            called = tf.saved_model.load(path).signatures["serving_default"](text=tf.constant(["a"]))
            found[path] = " ".join(str(value.numpy()) for value in called.values())
        except (tf.errors.OpError, OSError, ValueError) as error:
            found[path] = f"failed: {error}"
    return found


@needs_landlock
def test_with_no_scan_at_all_the_models_do_nothing_outside(tmp_path: Path) -> None:
    # Not above: the processes of the other tests import this file, too, and need no TensorFlow.
    from tests.support.models.hostile_models import path_changed_in_place, saver_writes
    from tests.support.models.saved_models import (
        writes_in_creator,
        writes_in_initialiser,
        writes_in_loop,
        writes_on_restore,
    )

    outside, own, models = (tmp_path / name for name in ("outside", "own", "models"))
    for folder in (outside, own, models):
        folder.mkdir()
    (outside / "secret").write_text("SECRET\n")
    paths = []
    for make in (
        writes_in_loop,
        writes_in_creator,
        writes_in_initialiser,
        writes_on_restore,
        saver_writes,
        path_changed_in_place,
    ):
        target = outside / ("secret" if make is path_changed_in_place else "written")
        paths.append(str(make(models / make.__name__, target)))
        (outside / "written").unlink(missing_ok=True)
    found = run_confined(Limits(own, (models,)), load_unscanned, paths)
    assert all("ermission denied" in told and "SECRET" not in told for told in found.values()), found
    assert sorted(path.name for path in outside.iterdir()) == ["secret"]
    # The same without the sandbox: the models are as bad as they look.
    free = run_confined(None, load_unscanned, paths)
    assert (outside / "written").exists()
    assert "SECRET" in free[paths[-1]]


def fail(kind: str) -> Any:
    if kind == "known":
        raise SettingsError("--flag: said")
    if kind == "unknown":
        raise RuntimeError("what happened")
    if kind == "exit":
        os._exit(7)
    return object()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "error", "message"),
    [
        ("known", SettingsError, "^--flag: said$"),
        ("unknown", ModelCrashError, "RuntimeError: what happened"),
        ("exit", ModelCrashError, "exit code 7"),
        ("a value that JSON does not know", ModelCrashError, "not JSON serializable"),
    ],
)
def test_how_it_ends_is_told(kind: str, error: type[Exception], message: str, tmp_path: Path) -> None:
    with pytest.raises(error, match=message):
        run_confined(Limits(tmp_path), fail, kind)


def say(text: str) -> list[str]:
    print(text)
    return [text]


def test_what_it_prints_is_printed_here(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_confined(Limits(tmp_path), say, "eins\n½") == ["eins\n½"]
    assert capsys.readouterr().out == "eins\n½\n"


def test_a_message_that_is_no_answer_runs_nothing_here(tmp_path: Path) -> None:
    """A process that was taken over may send anything: it is read as JSON, and only names of errors count."""
    with pytest.raises(ModelCrashError, match="not an answer"):
        run_confined(Limits(tmp_path), send_a_pickle, str(tmp_path / "ran"))
    assert not (tmp_path / "ran").exists()


class _Evil:
    def __init__(self, target: str) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return Path.touch, (Path(self.target),)


def send_a_pickle(target: str) -> None:
    import pickle
    import sys

    sys.stdout._connection.send_bytes(pickle.dumps(_Evil(target)))  # type: ignore[attr-defined]


class _Refusing:
    """A kernel that knows no Landlock and lets nobody filter calls."""

    def syscall(self, *arguments: Any) -> int:
        del arguments
        ctypes.set_errno(38)
        return -1


def test_what_the_kernel_refuses_is_said_part_by_part(tmp_path: Path) -> None:
    files = sandbox._confine_files(_Refusing(), Limits(tmp_path))  # type: ignore[arg-type]
    calls = sandbox._confine_calls(_Refusing())  # type: ignore[arg-type]
    assert files == "the kernel has no Landlock: Function not implemented"
    assert calls == "the kernel refuses a seccomp filter: Function not implemented"
    assert missing_line([f"files ({files})"]) == f"no sandbox on this system: files ({files})"
    assert missing_line([]) is None
    assert seccomp_filter("sparc64", 1) is None


HEADERS = {
    "x86_64": "/usr/include/x86_64-linux-gnu/asm/unistd_64.h",
    "aarch64": "/usr/include/asm-generic/unistd.h",
}


@pytest.mark.parametrize("machine", HEADERS)
def test_numbers_of_calls_are_those_of_the_kernels_headers(machine: str) -> None:
    header = Path(HEADERS[machine])
    if not header.is_file():
        pytest.skip("no headers of the kernel here")
    known = dict(re.findall(r"#define\s+__NR(?:3264)?_(\w+)\s+(\d+)", header.read_text()))
    calls = refused_calls(machine)
    assert calls is not None
    # Headers may be older than the newest calls.
    found = {name: int(known[name]) for name in calls if name in known}
    assert found == {name: calls[name] for name in found}
    assert len(found) > 45


def test_errors_of_a_bundle_keep_their_kind() -> None:
    from model_bundle.base.confined import _error

    assert type(_error("BundleFormatError", "x")) is BundleFormatError
    assert type(_error("ForbiddenOperationError", "x")).__name__ == "ForbiddenOperationError"
    assert type(_error("Sequence", "x")) is ModelCrashError
    assert str(_error("WeightsMismatchError", "what")) == "what"
