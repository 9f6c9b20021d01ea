"""The processes that decode ORC files for ``orc.py``: a server that forks one for each file.

The server has imported all that is needed and has a single thread, so a fork takes milliseconds. A process
knows nothing of the files read before it, and has no network and no files but through its parent.

Messages are bytes, the first of which is its kind, as named below. The parent begins with ``Settings`` in
JSON. It answers ``READ`` with bytes of the file, and the first ``FOUND``, a schema, with a JSON list of the
names to read, or with ``null`` for the number of rows. More of ``FOUND`` are batches, or that number.
"""

from __future__ import annotations

import io
import json
import os
import resource
import signal
import socket
import struct
import sys
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

from model_bundle.base.sandbox import Limits, confine

READ, FOUND, DAMAGED, DONE = b"r", b"f", b"e", b"d"
# An offset, and a number of bytes.
READ_REQUEST = struct.Struct("<QQ")
# The reader asks for whole columns of a stripe, which the parent need not hold.
_READ_BYTES = 1 << 20
_NO_FOLDER = Path("/nonexistent")


class Settings(NamedTuple):
    """Sizes in bytes of the file, about of a batch as it is stored, and of what the process may allocate."""

    file: int
    batch: int
    max_rows: int
    memory: int


def main(descriptor: str) -> None:
    """Forks for each pair of descriptors that comes: a socket to the parent, and a pipe for the exit code."""
    sys.meta_path.insert(0, _NoPandas)
    import pyarrow.dataset

    pyarrow.dataset.OrcFileFormat()
    control = socket.socket(fileno=int(descriptor))
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
    while True:
        data, descriptors, _, _ = socket.recv_fds(control, 1, 2)
        if not data:
            os._exit(0)
        if not os.fork():
            control.close()
            _watch(*descriptors)
        for number in descriptors:
            os.close(number)


def _watch(connection: int, status: int) -> None:
    """Forks the process that decodes, and tells its exit code; does not return."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    child = os.fork()
    if not child:
        os.close(status)
        try:
            _decode(Connection(connection))
        except (EOFError, OSError):
            pass  # the parent is gone; native threads need not be joined
        except BaseException:
            os._exit(1)
        os._exit(0)
    os.close(connection)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with suppress(OSError):
        os.write(status, str(code).encode())
    os._exit(0)


class _NoPandas:
    """pyarrow.dataset imports pandas where it is installed, which takes longer than all else."""

    @staticmethod
    def find_spec(name: str, *_: object) -> None:
        if name == "pandas":
            raise ModuleNotFoundError(name)


def _decode(connection: Connection) -> None:
    import pyarrow as pa
    import pyarrow.dataset as ds

    settings = Settings(*json.loads(connection.recv_bytes()))
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # the reader prints warnings
    with suppress(ValueError, OSError):  # a lower limit is set already
        resource.setrlimit(resource.RLIMIT_DATA, (settings.memory, settings.memory))
    confine(Limits(_NO_FOLDER))
    file = _ParentFile(connection, settings.file)
    try:
        _send_found(file, ds.OrcFileFormat().make_fragment(pa.PythonFile(file, mode="r")), settings)
        file.send(DONE)
    except (pa.ArrowException, OSError, UnicodeDecodeError, MemoryError) as error:
        file.send(DAMAGED, str(error).encode("utf-8", "replace"))


def _send_found(file: _ParentFile, fragment: Any, settings: Settings) -> None:
    import pyarrow.dataset as ds

    names = json.loads(file.ask(FOUND, fragment.physical_schema.serialize()))
    num_rows = fragment.count_rows()
    if names is None:
        file.send(FOUND, str(num_rows).encode())
        return
    rows = min(settings.max_rows, settings.batch * num_rows // max(settings.file, 1))
    # Names as expressions, because a name with a dot would be a path.
    scanner = fragment.scanner(
        columns={name: ds.field(name) for name in names},
        batch_size=max(1, rows),
        batch_readahead=1,
        fragment_readahead=1,
        use_threads=False,
    )
    for batch in scanner.to_batches():
        file.send(FOUND, batch.serialize())


class _ParentFile(io.RawIOBase):
    """The file, of which the parent reads the bytes. Arrow reads in a thread of its own."""

    def __init__(self, connection: Connection, size: int) -> None:
        super().__init__()
        self._connection, self._lock, self._offset, self._size = connection, Lock(), 0, size

    def send(self, kind: bytes, content: Any = b"") -> None:
        """Sends a message."""
        with self._lock:
            self._connection.send_bytes(kind + content)

    def ask(self, kind: bytes, content: Any) -> bytes:
        """Sends a message and returns the answer."""
        with self._lock:
            self._connection.send_bytes(kind + content)
            return self._connection.recv_bytes()

    def readable(self) -> bool:
        """Returns True."""
        return True

    def seekable(self) -> bool:
        """Returns True."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Moves to an offset in bytes and returns it."""
        self._offset = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._offset, io.SEEK_END: self._size}[whence]
        return self._offset

    def tell(self) -> int:
        """Returns the offset in bytes."""
        return self._offset

    def readinto(self, buffer: Any, /) -> int:
        """Fills the buffer, or a part of it at the end of the file."""
        size = min(len(buffer), max(self._size - self._offset, 0))
        for begin in range(0, size, _READ_BYTES):
            part = min(_READ_BYTES, size - begin)
            buffer[begin : begin + part] = self.ask(READ, READ_REQUEST.pack(self._offset, part))
            self._offset += part
        return size
