"""Runs a model in a separate process: a crash costs one text instead of the worker.

Native code can end a process in ways that no ``except`` catches: a failed check, a bad memory access, the
system's out-of-memory killer. Here such a crash is a batch without an answer. The process is restarted and
the batch is run again on its own; if it crashes again, the batch is at fault and ``TextEncoder`` splits it
until the bad text is alone.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
import weakref
from collections.abc import Callable, Mapping

import numpy as np

from model_bundle.base.machine import num_cores
from model_bundle.bundle.bundle import ModelBundle
from model_bundle.errors import ModelBundleError, ModelCrashError, ModelMemoryError, ModelRunError
from model_bundle.runtime.isolated.child import load_runtime
from model_bundle.runtime.isolated.process import ChildEndedError, ChildProcess
from model_bundle.runtime.memory import MemoryGate
from model_bundle.runtime.request import EncodeRequest
from model_bundle.runtime.tensorflow_runtime import Runtime

# Crashes without any successful batch in between. Isolating one bad text of thousands takes fewer than ten.
_MAX_CRASHES_IN_A_ROW = 40

Load = Callable[[ModelBundle, EncodeRequest, int | None], Runtime]


class IsolatedRuntime:
    """See ``Runtime``; the model is in a child process, which is restarted when it ends.

    Args:
        bundle: a checked bundle; the child opens it by its digest.
        request: outputs, pooling and precision to compute.
        num_threads: batches run in parallel; None means one per core.
        measure_batches: measure the fastest batches, see ``batch_tokens``.
        load: the function that loads the model in the child; its module must be importable there.

    Raises:
        ModelBundleError: the model cannot be loaded.
    """

    def __init__(
        self,
        bundle: ModelBundle,
        request: EncodeRequest,
        num_threads: int | None = None,
        *,
        measure_batches: bool = False,
        load: Load = load_runtime,
    ) -> None:
        started = time.monotonic()
        self.request = request
        self.parallelism = num_threads or num_cores()
        self.num_restarts = 0
        place = f"{bundle.path}@sha256:{bundle.digest}"
        self._wanted = (load, (place, bundle.allowed_ops), request, num_threads)
        self._gate = MemoryGate()
        self._own = threading.local()
        self._crashes_in_a_row = 0
        self._child = ChildProcess(self.parallelism)
        self._end = weakref.finalize(self, self._child.end)
        try:
            self.unfrozen_reason, self.batch_tokens = self._load(measure_batches=measure_batches)
        except ChildEndedError as ended:
            raise ModelBundleError(
                f"The process for the model ended {ended} while loading it. Check the bundle with: "
                "python -m model_bundle verify"
            ) from ended
        self.ready_seconds = time.monotonic() - started

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """See ``Runtime.run``.

        Raises:
            ModelCrashError: the batch crashes the process, even when it runs alone.
            ModelBundleError: the process keeps crashing, whatever is computed.
        """
        if not self._num_suspects:
            with contextlib.suppress(ChildEndedError), self._gate.shared(0.0, 0.0):
                return self._run(inputs)
        # Running each of the affected batches alone shows which one is at fault.
        with self._gate.exclusive():
            if self._child.returncode is not None:
                self._restart()
            return self._run_alone(inputs, num_texts=len(next(iter(inputs.values()))))

    @property
    def pid(self) -> int:
        """The id of the current child process."""
        return self._child.process.pid

    @property
    def _num_suspects(self) -> int:
        """Texts of this thread's batch that crashed alone and are not yet known to be harmless."""
        return getattr(self._own, "num_suspects", 0)

    def _run_alone(self, inputs: Mapping[str, np.ndarray], num_texts: int) -> dict[str, np.ndarray]:
        try:
            outputs = self._run(inputs)
        except ChildEndedError as ended:
            if self._num_suspects == 0 and num_texts > 1:
                self._own.num_suspects = num_texts
            elif num_texts == 1:
                self._own.num_suspects = max(self._num_suspects - 1, 0)
            raise _crash(ended, num_texts) from ended
        self._own.num_suspects = max(self._num_suspects - num_texts, 0)
        return outputs

    def _run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        try:
            outputs = self._child.run(inputs)
        except ModelRunError:
            self._crashes_in_a_row = 0
            raise
        self._crashes_in_a_row = 0
        return outputs

    def _restart(self) -> None:
        """Restarts the process; no batch may run meanwhile. The new process may crash as well."""
        while self._child.returncode is not None:
            self._crashes_in_a_row += 1
            if self._crashes_in_a_row > _MAX_CRASHES_IN_A_ROW:
                raise ModelBundleError(
                    f"The process that runs the model ended {_MAX_CRASHES_IN_A_ROW} times in a row, without "
                    "any batch computed in between: the texts are not the cause. Check the bundle with: "
                    "python -m model_bundle verify"
                )
            self._end()
            self._child = ChildProcess(self.parallelism)
            self._end = weakref.finalize(self, self._child.end)
            self.num_restarts += 1
            with contextlib.suppress(ChildEndedError):
                self._load(measure_batches=False)

    def _load(self, *, measure_batches: bool) -> tuple[str | None, int | None]:
        """Loads the model; returns ``unfrozen_reason`` and, if measured, ``batch_tokens``."""
        unfrozen_reason, batch_tokens = self._child.load(*self._wanted, measure_batches)
        return unfrozen_reason, batch_tokens


def _crash(ended: ChildEndedError, num_texts: int) -> ModelRunError:
    """Returns the error for a crash; a process killed by the system most often took too much memory."""
    what = f"The process that runs the model ended {ended} on a batch of {num_texts} that ran alone."
    if ended.returncode == -signal.SIGKILL:
        return ModelMemoryError(f"{what} The system does this when memory runs out.")
    return ModelCrashError(what)
