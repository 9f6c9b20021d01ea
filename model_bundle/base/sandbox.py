"""Confines this process for good: no network, no other program, no file outside of a few folders.

By Landlock (files) and seccomp (network, programs), which need no rights and no package. Each is used where
the kernel has it, and what is missing is returned to be said.
"""

from __future__ import annotations

import ctypes
import os
import resource
import site
import struct
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from model_bundle.base.system_calls import seccomp_filter

_NO_NEW_PRIVILEGES = 38
# The same numbers on every architecture. Source: linux/landlock.h, linux/seccomp.h.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_ASK_VERSION, _PATH_BENEATH = 1, 1
_SECCOMP = {"x86_64": 317, "aarch64": 277}
_SET_FILTER, _ALL_THREADS = 1, 1
_READ_FILE, _READ_FOLDER = 1 << 2, 1 << 3
_WRITE_FILE, _TRUNCATE = 1 << 1, 1 << 14
_ON_FILES = _READ_FILE | _WRITE_FILE | _TRUNCATE
# Rights to files by the version of Landlock that brought them: 1 has 13, then renames between folders,
# cutting files, ioctl of devices.
_RIGHTS = {1: (1 << 13) - 1, 2: 1 << 13, 3: _TRUNCATE, 5: 1 << 15}
_EXECUTE = 1
_TCP, _OTHER_PROCESSES = 0b11, 0b11
# What the interpreter, its libraries and TensorFlow read of a system; no folder of people.
_SYSTEM = """
    /usr /lib /lib64 /bin /nix/store /etc/ld.so.cache /etc/ld.so.conf /etc/ld.so.conf.d /etc/localtime
    /etc/os-release /proc/cpuinfo /proc/meminfo /proc/stat /proc/filesystems /proc/version /proc/sys
    /proc/self/status /proc/self/cmdline /proc/self/stat /proc/self/statm /proc/self/maps /proc/self/cgroup
    /proc/self/mounts /proc/self/mountinfo /sys/devices /sys/fs/cgroup /sys/kernel/mm /sys/bus /sys/class
    /dev/urandom /dev/random /dev/zero
"""
_NOWHERE = "/dev/null"


@dataclass(frozen=True)
class Limits:
    """What a confined process may do with files.

    ``own`` is the folder it may write to. ``readable`` are files and folders it may read beside those of
    Python and the system; None is everything. ``listed`` are folders whose names it may read, and no content.
    """

    own: Path
    readable: tuple[Path, ...] | None = ()
    listed: tuple[Path, ...] = ()


def confine(limits: Limits) -> tuple[str, ...]:
    """Confines this process and every thread that it starts from now on; there is no way back.

    Call it first: threads that run already keep their right to files.

    Returns:
        What could not be confined here and why, a line each.
    """
    # Nothing that must be undone: temporary files go where they may.
    os.environ["TMPDIR"] = tempfile.tempdir = str(limits.own)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _limit_memory()
    if sys.platform != "linux":
        return (f"files, network and programs ({sys.platform} has neither Landlock nor seccomp)",)
    system = ctypes.CDLL(None, use_errno=True)
    system.syscall.restype = ctypes.c_long
    if system.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) != 0:
        return (f"files, network and programs ({_last_error()})",)
    missing = [("files", _confine_files(system, limits)), ("network and programs", _confine_calls(system))]
    return tuple(f"{what} ({why})" for what, why in missing if why is not None)


def missing_line(missing: Iterable[str]) -> str | None:
    """Returns the line that says what is not confined; None where all is.

    >>> missing_line(["files (the kernel has no Landlock)"])
    'no sandbox on this system: files (the kernel has no Landlock)'
    """
    listed = ", ".join(missing)
    return f"no sandbox on this system: {listed}" if listed else None


def _limit_memory() -> None:
    """Bounds what is allocated, not addresses, of which TensorFlow reserves many more than it uses.

    To all that the machine has: a container kills what takes more than its share, and untouched stacks of
    threads count here.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = limit if hard == resource.RLIM_INFINITY else min(hard, limit)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))


def _confine_files(system: ctypes.CDLL, limits: Limits) -> str | None:
    """Returns why files cannot be confined; None where they are now."""
    version = system.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint(_ASK_VERSION))
    if version < 1:
        return f"the kernel has no Landlock: {_last_error()}"
    rights = sum(bits for since, bits in _RIGHTS.items() if since <= version)
    fields = [rights, _TCP if version >= 4 else 0, _OTHER_PROCESSES if version >= 6 else 0]
    handled = struct.pack("QQQ", *fields)[: 24 if version >= 6 else 16 if version >= 4 else 8]
    ruleset = system.syscall(_CREATE_RULESET, handled, ctypes.c_size_t(len(handled)), ctypes.c_uint(0))
    if ruleset < 0:
        return f"Landlock refuses its rules: {_last_error()}"
    try:
        for path, allowed in _rules(limits, rights & ~_EXECUTE):
            _allow(system, ruleset, path, allowed)
        if system.syscall(_RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint(0)) != 0:
            return f"Landlock cannot be switched on: {_last_error()}"
    finally:
        os.close(ruleset)
    return None


def _rules(limits: Limits, rights: int) -> Iterator[tuple[Path, int]]:
    read = _READ_FILE | _READ_FOLDER
    readable = [Path("/")] if limits.readable is None else [*_python(), *limits.readable]
    yield from ((path, read) for path in readable)
    yield from ((path, _READ_FOLDER) for path in limits.listed)
    yield limits.own, rights
    yield Path(_NOWHERE), (_READ_FILE | _WRITE_FILE | _TRUNCATE) & rights


def _python() -> Iterator[Path]:
    """Lists what Python and its packages are read from; not the folder that somebody happens to be in."""
    here = Path.cwd().resolve()
    packages = Path(__file__).parents[1]
    yield from map(Path, [*_SYSTEM.split(), sys.prefix, sys.base_prefix, sys.exec_prefix, str(packages)])
    yield from (Path(path) for path in sys.path if path and Path(path).resolve() != here)
    yield from (Path(path) for path in site.getsitepackages())
    yield from (Path(path) for path in os.environ.get("LD_LIBRARY_PATH", "").split(":") if path)
    # Both Keras read their settings there when they are imported.
    with suppress(RuntimeError):  # a user without a home
        yield Path(os.environ.get("KERAS_HOME") or "~/.keras").expanduser()


def _allow(system: ctypes.CDLL, ruleset: int, path: Path, rights: int) -> None:
    """Allows something below a path; one that is not there needs no right."""
    try:
        opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        allowed = rights if path.is_dir() else rights & _ON_FILES
        rule = struct.pack("=Qi", allowed, opened)
        if allowed:
            system.syscall(
                _ADD_RULE, ctypes.c_int(ruleset), ctypes.c_int(_PATH_BENEATH), rule, ctypes.c_uint(0)
            )
    finally:
        os.close(opened)


def _confine_calls(system: ctypes.CDLL) -> str | None:
    """Returns why calls cannot be confined; None where they are now."""
    machine = os.uname().machine
    content = seccomp_filter(machine, os.getpid())
    if content is None:
        return f"no filter is known for {machine}"
    buffer = ctypes.create_string_buffer(content, len(content))
    program = struct.pack("HxxxxxxQ", len(content) // 8, ctypes.addressof(buffer))
    done = system.syscall(_SECCOMP[machine], ctypes.c_uint(_SET_FILTER), ctypes.c_uint(_ALL_THREADS), program)
    return None if done == 0 else f"the kernel refuses a seccomp filter: {_last_error()}"


def _last_error() -> str:
    return os.strerror(ctypes.get_errno())
