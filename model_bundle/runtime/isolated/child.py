"""The child process that runs a model for its parent: see ``IsolatedRuntime``."""

from __future__ import annotations

import os
import sys
import threading
import traceback
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any

from model_bundle.bundle.bundle import ModelBundle
from model_bundle.errors import ModelBundleError
from model_bundle.runtime.batch_size import calibrated_batch_tokens
from model_bundle.runtime.isolated.shared_arrays import SharedArrays
from model_bundle.runtime.request import EncodeRequest
from model_bundle.runtime.tensorflow_runtime import Runtime, TensorFlowRuntime


def main(descriptors: list[str]) -> None:
    """Loads the model that the first channel requests, then runs batches until the parent is gone.

    Args:
        descriptors: per channel three numbers with commas: its socket, input memory and output memory.
    """
    channels = [_Channel(*map(int, numbers.split(","))) for numbers in descriptors]
    first = channels[0].connection
    try:
        runtime, reply = _loaded(*first.recv())
        first.send(reply)
        if runtime is not None:
            threads = [
                threading.Thread(target=channel.serve, args=[runtime], daemon=True) for channel in channels
            ]
            for thread in threads:
                thread.start()
            threads[0].join()
    except (EOFError, OSError):
        pass
    # The parent is gone or wants this process to end; native threads need not be joined.
    os._exit(0)


def load_runtime(bundle: ModelBundle, request: EncodeRequest, num_threads: int | None) -> Runtime:
    """Loads the model as it would be without isolation."""
    return TensorFlowRuntime(bundle, request, num_threads)


def _loaded(
    load: Any,
    bundle: tuple[str, Sequence[str]],
    request: EncodeRequest,
    num_threads: int | None,
    measures: bool,
) -> tuple[Runtime | None, tuple[Any, ...]]:
    """Returns the model, and the reply: ``("ready", facts…)`` or ``("failed", kind, message)``."""
    try:
        opened = ModelBundle.open(*bundle)
        runtime: Runtime = load(opened, request, num_threads)
        batch_tokens = calibrated_batch_tokens(opened, runtime) if measures else None
    except Exception as error:
        return None, _failure(error)
    return runtime, ("ready", runtime.unfrozen_reason, batch_tokens)


class _Channel:
    """A socket for messages, and shared memory for arrays in both directions."""

    def __init__(self, connection: int, inputs: int, outputs: int) -> None:
        self.connection = Connection(connection)
        self._inputs, self._outputs = SharedArrays(inputs), SharedArrays(outputs)

    def serve(self, runtime: Runtime) -> None:
        """Runs batches until the other side closes."""
        while True:
            try:
                placed = self.connection.recv()
            except (EOFError, OSError):
                return
            try:
                reply = ("done", self._outputs.write(runtime.run(self._inputs.views(placed))))
            except Exception as error:
                reply = _failure(error)
            self.connection.send(reply)


def _failure(error: Exception) -> tuple[Any, ...]:
    if isinstance(error, ModelBundleError):
        return "failed", type(error).__name__, str(error)
    return "failed", "", "".join(traceback.format_exception(error))


if __name__ == "__main__":
    main(sys.argv[1:])
