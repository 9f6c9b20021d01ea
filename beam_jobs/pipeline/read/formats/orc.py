"""Reads ORC: rows in small batches, only the required columns, decoded in a process of its own for each file.

Apache's C++ reader ends its process, or takes gigabytes, on some damaged files. So ``orc_child`` decodes, and
this process reads the stored bytes for it: what ends the child costs one file.

A file is read by one worker, because ORC's reader does not say how many rows a stripe has, and ids are made
from row numbers. Its batches are cut from within a stripe, so memory does not depend on the size of stripes.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Lock

import pyarrow as pa

from beam_jobs.errors import JobError
from beam_jobs.pipeline.read.documents import Outcomes
from beam_jobs.pipeline.read.files.open import Meter, OnBytes, StoredFile
from beam_jobs.pipeline.read.formats import orc_child
from beam_jobs.pipeline.read.formats.columnar import (
    BATCH_BYTES,
    MAX_BATCH_ROWS,
    RowReader,
    wanted_top_level,
)
from beam_jobs.pipeline.read.types import DamagedFileError, FileColumns, FileInfo, FileSplit, ReadPlan
from model_bundle.base.machine import memory_bytes

_START = "import sys; from beam_jobs.pipeline.read.formats.orc_child import main; main(sys.argv[1])"
# A batch takes some megabytes, but a damaged size in a file may be anything.
_LEAST_MEMORY, _MOST_MEMORY = 1 << 30, 1 << 32
# How a process ends that others end.
_FROM_OUTSIDE = {signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP}


def read_orc(split: FileSplit, plan: ReadPlan, on_bytes: OnBytes | None = None) -> Outcomes:
    """Reads a file; rows are numbered from 0.

    Raises:
        DamagedFileError: the file is not ORC, lacks a required column, or is damaged.
    """
    meter, position = Meter(on_bytes, split.file.size_bytes), 0
    with _opened(split.file, meter) as decoder:
        columns = decoder.columns()
        reader = RowReader(columns, plan)
        for batch in decoder.batches(wanted_top_level(columns, plan)):
            yield from reader.outcomes(batch, position)
            position += batch.num_rows
        meter.add(split.file.size_bytes)


def orc_columns(file: FileInfo) -> FileColumns:
    """Returns the top-level columns of a file.

    Raises:
        DamagedFileError: the file is not ORC.
    """
    with _opened(file, None) as decoder:
        return decoder.columns()


def orc_num_rows(file: FileInfo) -> int:
    """Returns the number of rows that a file states.

    Raises:
        DamagedFileError: the file is not ORC.
    """
    with _opened(file, None) as decoder:
        decoder.columns()
        return decoder.num_rows()


@contextmanager
def _opened(file: FileInfo, meter: Meter | None) -> Iterator[_Decoder]:
    with StoredFile(file) as stored:
        decoder = _Decoder(file, stored, meter)
        try:
            yield decoder
        except (pa.ArrowException, UnicodeDecodeError) as error:  # names or kept texts that are not UTF-8
            raise _damaged(str(error)) from error
        finally:
            decoder.end()


class _Server:
    """Starts the processes that decode; is itself a process, started with the first file."""

    def __init__(self) -> None:
        self._lock, self._running = Lock(), list[tuple[subprocess.Popen[bytes], socket.socket]]()

    def start(self, *descriptors: int) -> None:
        """Starts a process that has these descriptors."""
        with self._lock:
            if not self._running or self._running[0][0].poll() is not None:
                self.end()
                self._running.append(self._started())
            socket.send_fds(self._running[0][1], [b"f"], descriptors)

    def _started(self) -> tuple[subprocess.Popen[bytes], socket.socket]:
        ours, theirs = socket.socketpair()
        # Workers may have modules in extra folders.
        paths = os.pathsep.join(dict.fromkeys(path or str(Path.cwd()) for path in sys.path))
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-c", _START, str(theirs.fileno())],
                env=os.environ | {"PYTHONPATH": paths},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                process_group=0,  # Ctrl-C is for this process, which ends the other
            )
        return process, ours

    def end(self) -> None:
        """Ends the server; files that are being read are read on."""
        while self._running:
            process, control = self._running.pop()
            control.close()
            process.kill()
            process.wait()


_server = _Server()
atexit.register(_server.end)


class _Decoder:
    """The process that decodes a file."""

    def __init__(self, file: FileInfo, stored: StoredFile, meter: Meter | None) -> None:
        self._file, self._stored, self._meter = file, stored, meter
        self._memory_bytes = max(_LEAST_MEMORY, min(memory_bytes() // 2, _MOST_MEMORY))
        ours, theirs = socket.socketpair()
        self._connection = Connection(ours.detach())
        self._status, status = os.pipe()
        try:
            _server.start(theirs.fileno(), status)
        except OSError:
            self.end()
            raise
        finally:
            theirs.close()
            os.close(status)
        settings = orc_child.Settings(file.size_bytes, BATCH_BYTES, MAX_BATCH_ROWS, self._memory_bytes)
        self._send(json.dumps(settings).encode())
        self._schema: pa.Schema | None = None

    def columns(self) -> FileColumns:
        """Returns the top-level columns; call it first."""
        schema = self._schema = pa.ipc.read_schema(pa.py_buffer(next(self._messages())))
        return FileColumns.of(self._file, schema.names, schema.types)

    def num_rows(self) -> int:
        """Returns the number of rows that the file states; call it after ``columns``."""
        self._send(b"null")
        return int(bytes(next(self._messages())))

    def batches(self, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Yields the rows of some columns, in order."""
        assert self._schema is not None
        schema = pa.schema([self._schema.field(name) for name in names])
        self._send(json.dumps(names).encode())
        for content in self._messages():
            yield pa.ipc.read_record_batch(pa.py_buffer(content), schema)

    def end(self) -> None:
        """Ends the process, at the latest after its next batch."""
        self._connection.close()
        os.close(self._status)

    def _messages(self) -> Iterator[memoryview]:
        """Yields what the process found, and reads the file for it.

        Raises:
            DamagedFileError: see ``read_orc`` and ``StoredFile``.
            JobError: the process was ended by others.
        """
        while True:
            try:
                message = memoryview(self._connection.recv_bytes())
            except (EOFError, OSError) as error:
                raise self._ended() from error
            kind, content = bytes(message[:1]), message[1:]
            if kind == orc_child.READ:
                self._send(self._read(*orc_child.READ_REQUEST.unpack(content)))
            elif kind == orc_child.DAMAGED:
                raise _damaged(bytes(content).decode("utf-8", "replace"))
            elif kind == orc_child.DONE:
                return
            else:
                yield content

    def _read(self, offset: int, size: int) -> bytes:
        """Reads a part of the file; less than asked for only at its end."""
        self._stored.seek(offset)
        data = bytearray()
        while len(data) < size and (block := self._stored.read(size - len(data))):
            data += block
        if self._meter is not None:
            self._meter.add(len(data))
        return bytes(data)

    def _send(self, data: bytes) -> None:
        try:
            self._connection.send_bytes(data)
        except OSError as error:
            raise self._ended() from error

    def _ended(self) -> Exception:
        """Returns the error of a process that has ended."""
        code = int(os.read(self._status, 100) or -signal.SIGKILL)
        how = f"exit code {code}" if code >= 0 else signal.strsignal(-code) or f"signal {-code}"
        if -code in _FROM_OUTSIDE:
            return JobError(
                f"The process that decodes {self._file.path} was ended ({how}), not by what is in the file. "
                "Check the memory of the worker; then start the job again."
            )
        return _damaged(
            f"decoding it ended its process, {how}, or needs more than {self._memory_bytes / 1e9:.1f} GB"
        )


def _damaged(what: str) -> DamagedFileError:
    return DamagedFileError(
        "damaged", f"Expected an ORC file, but it cannot be read ({what}). Copy or write the file again."
    )
