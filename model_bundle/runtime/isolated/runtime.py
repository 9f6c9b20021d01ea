"""A model in a process of its own: what ends that process costs one text, not the worker.

Native code can end a process in ways that no ``except`` sees: a failed check, a bad access, the system that
is out of memory. Here that is a batch without an answer. The process is started again, the batch is run again
with nothing beside it, and if it ends the process again it is the batch's fault: ``TextEncoder`` cuts it
until the culprit is alone.
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
from model_bundle.runtime.memory_gate import MemoryGate
from model_bundle.runtime.request import EncodeRequest
from model_bundle.runtime.tensorflow_runtime import Runtime

# Crashes with not one batch computed between them. A culprit among thousands of texts takes fewer than ten.
_MAX_CRASHES_IN_A_ROW = 40

Load = Callable[[ModelBundle, EncodeRequest, int | None], Runtime]


class IsolatedRuntime:
    """See ``Runtime``; the model is in a child of this process, which is restarted when it ends.

    Args:
        bundle: a checked bundle; the child opens it by its digest.
        request: what is wanted of it.
        num_threads: batches side by side; None takes every core.
        measure_batches: find out which batches are fastest, see ``batch_tokens``.
        load: what the child loads the model with; a function of a module that it can import.

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
        self.num_lanes = num_threads or num_cores()
        self.num_restarts = 0
        place = f"{bundle.path}@sha256:{bundle.digest}"
        self._wanted = (load, (place, bundle.allowed_ops), request, num_threads)
        self._gate = MemoryGate()
        self._own = threading.local()
        self._crashes_in_a_row = 0
        self._child = ChildProcess(self.num_lanes)
        self._end = weakref.finalize(self, self._child.end)
        try:
            self.variables_reason, self.batch_tokens = self._load(measure_batches=measure_batches)
        except ChildEndedError as ended:
            raise ModelBundleError(
                f"The process that was to run the model ended {ended} while loading it. Try the bundle with: "
                "python -m model_bundle verify"
            ) from ended
        self.ready_seconds = time.monotonic() - started

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """See ``Runtime.run``.

        Raises:
            ModelCrashError: the batch ends the process that computes it, also with nothing beside it.
            ModelBundleError: the process ends again and again, whatever is computed.
        """
        if not self._num_suspects:
            with contextlib.suppress(ChildEndedError), self._gate.beside(0.0, 0.0):
                return self._run(inputs)
        # Whose fault it was shows when each of the batches that were there is alone.
        with self._gate.alone():
            if self._child.returncode is not None:
                self._restart()
            return self._run_alone(inputs, num_texts=len(next(iter(inputs.values()))))

    @property
    def pid(self) -> int:
        """The process that has the model now."""
        return self._child.process.pid

    @property
    def _num_suspects(self) -> int:
        """Texts of a batch that crashed alone, in this thread, which have not been seen to be harmless."""
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
        """Starts the process again; nothing may run. Whatever ended it may end the new one, too."""
        while self._child.returncode is not None:
            self._crashes_in_a_row += 1
            if self._crashes_in_a_row > _MAX_CRASHES_IN_A_ROW:
                raise ModelBundleError(
                    f"The process that runs the model ended {_MAX_CRASHES_IN_A_ROW} times in a row, with not "
                    "one batch computed between: it is not the texts. Try the bundle with: python -m "
                    "model_bundle verify"
                )
            self._end()
            self._child = ChildProcess(self.num_lanes)
            self._end = weakref.finalize(self, self._child.end)
            self.num_restarts += 1
            with contextlib.suppress(ChildEndedError):
                self._load(measure_batches=False)

    def _load(self, *, measure_batches: bool) -> tuple[str | None, int | None]:
        """Returns why weights stayed variables, and the fastest batches if they were measured."""
        variables_reason, batch_tokens = self._child.load(*self._wanted, measure_batches)
        return variables_reason, batch_tokens


def _crash(ended: ChildEndedError, num_texts: int) -> ModelRunError:
    """Says whose fault it was; what the system kills is most often what has taken its memory."""
    what = f"The process that runs the model ended {ended} on a batch of {num_texts}, with nothing beside it."
    if ended.returncode == -signal.SIGKILL:
        return ModelMemoryError(f"{what} The system does so when memory runs out.")
    return ModelCrashError(what)
