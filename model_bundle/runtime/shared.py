"""One loaded model a process, whoever asks for it: stages, threads, other pipelines' handlers."""

from __future__ import annotations

from threading import Lock
from weakref import WeakValueDictionary

from model_bundle.base.machine import release_free_memory
from model_bundle.bundle.bundle import ModelBundle
from model_bundle.runtime.isolated.runtime import IsolatedRuntime
from model_bundle.runtime.request import EncodeRequest
from model_bundle.runtime.tensorflow_runtime import TensorFlowRuntime

_Key = tuple[str, EncodeRequest, bool]
SharedRuntime = TensorFlowRuntime | IsolatedRuntime

# Models that somebody holds; and the last one, since Beam tears a stage down before it sets up the next.
_held: WeakValueDictionary[_Key, SharedRuntime] = WeakValueDictionary()
_last: list[SharedRuntime] = []
_lock = Lock()


def shared_runtime(
    bundle: ModelBundle,
    request: EncodeRequest,
    num_threads: int | None = None,
    *,
    isolate: bool = False,
    measure_batches: bool = False,
) -> SharedRuntime:
    """Returns the process's model for a bundle and settings; loads it if nobody has.

    Args:
        bundle: a checked bundle.
        request: what is wanted of it.
        num_threads: batches side by side; None takes every core.
        isolate: keep it in a child of this process, see ``IsolatedRuntime``.
        measure_batches: an isolated one is to know which batches are fastest.

    Raises:
        ModelBundleError: see ``TensorFlowRuntime``.
    """
    key = (bundle.digest, request, isolate)
    with _lock:
        runtime = _held.get(key)
        if runtime is None:
            if isolate:
                runtime = IsolatedRuntime(bundle, request, num_threads, measure_batches=measure_batches)
            else:
                runtime = TensorFlowRuntime(bundle, request, num_threads)
            _held[key] = runtime
        _last[:] = [runtime]
        return runtime


def release_last() -> None:
    """Lets go of the model that was used last: what nobody else holds is freed before another is loaded."""
    with _lock:
        _last.clear()
    release_free_memory(collect=True)
