"""The parent's side of an isolated model's child process: starts, queries and ends it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np

from model_bundle import errors
from model_bundle.errors import ModelBundleError
from model_bundle.runtime.isolated.shared_arrays import SharedArrays, new_descriptor

# A process whose sockets are closed ends soon, unless the system is writing a core dump.
_END_SECONDS = 30.0
_START = "import sys; from model_bundle.runtime.isolated.child import main; main(sys.argv[1:])"


class ChildEndedError(Exception):
    """The child process has ended.

    Args:
        returncode: as in ``subprocess``: the negative number of a signal, or an exit code.
    """

    def __init__(self, returncode: int) -> None:
        self.returncode = returncode
        super().__init__(f"with {_name(returncode)}")


class ChildProcess:
    """A new process with a socket and shared memory for each channel.

    Args:
        parallelism: batches run in parallel.
    """

    def __init__(self, parallelism: int) -> None:
        self.returncode: int | None = None
        self._channels = [_Channel() for _ in range(parallelism)]
        self._free_channels: SimpleQueue[_Channel] = SimpleQueue()
        inherited = [number for channel in self._channels for number in channel.descriptors]
        # Workers may have modules in extra folders.
        paths = os.pathsep.join(dict.fromkeys(path or str(Path.cwd()) for path in sys.path))
        self.process = subprocess.Popen(
            [sys.executable, "-c", _START, *(channel.argument for channel in self._channels)],
            env=os.environ | {"PYTHONPATH": paths},
            stdin=subprocess.DEVNULL,
            pass_fds=inherited,
        )
        for channel in self._channels:
            channel.started()
            self._free_channels.put(channel)

    def load(self, *what: Any) -> tuple[Any, ...]:
        """Loads the model in the child; returns the child's reply.

        Raises:
            ModelBundleError: it cannot be loaded.
            ChildEndedError: the child ended while loading.
        """
        return self._ask(self._channels[0], what)

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Runs a batch on the next free channel.

        Raises:
            ModelRunError: the model failed without ending its process.
            ChildEndedError: the child ended during this batch, perhaps because of another one.
        """
        channel = self._free_channels.get()
        try:
            (placed,) = self._ask(channel, channel.inputs.write(inputs))
            return {name: array.copy() for name, array in channel.outputs.views(placed).items()}
        finally:
            self._free_channels.put(channel)

    def end(self) -> None:
        """Kills the process if it still runs, and closes its channels."""
        self.process.kill()
        self.process.wait()
        for channel in self._channels:
            channel.close()

    def _ask(self, channel: _Channel, what: Any) -> tuple[Any, ...]:
        if self.returncode is not None:
            raise ChildEndedError(self.returncode)
        try:
            channel.connection.send(what)
            kind, *reply = channel.connection.recv()
        except (EOFError, OSError) as error:
            raise ChildEndedError(self._ended()) from error
        if kind == "failed":
            raise _error(*reply)
        return tuple(reply)

    def _ended(self) -> int:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(_END_SECONDS)
        self.process.kill()
        self.returncode = self.process.wait()
        return self.returncode


class _Channel:
    """A socket to the child, and shared memory for inputs and outputs."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        self.connection, self._theirs = Connection(ours.detach()), theirs
        self._memory = new_descriptor(), new_descriptor()
        self.inputs, self.outputs = map(SharedArrays, self._memory)

    @property
    def descriptors(self) -> tuple[int, ...]:
        return self._theirs.fileno(), *self._memory

    @property
    def argument(self) -> str:
        return ",".join(map(str, self.descriptors))

    def started(self) -> None:
        """Closes the child's end here, so that its death closes the socket."""
        self._theirs.close()

    def close(self) -> None:
        self.connection.close()
        for descriptor in self._memory:
            os.close(descriptor)


def _error(kind: str, message: str) -> Exception:
    """Recreates the child's error; one with a custom constructor becomes a ``ModelBundleError``."""
    if not kind:
        return RuntimeError(f"The process that runs the model raised an error:\n{message}")
    known = getattr(errors, kind, ModelBundleError)
    is_plain = known.__init__ is Exception.__init__
    return known(message) if is_plain else ModelBundleError(message)


def _name(returncode: int) -> str:
    if returncode >= 0:
        return f"exit code {returncode}"
    try:
        return signal.Signals(-returncode).name
    except ValueError:  # real-time signals have no names
        return f"signal {-returncode}"
