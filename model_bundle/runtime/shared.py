"""Shares one loaded model per process between stages, threads and other pipelines' handlers."""

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

# Models in use, and the last one, since Beam tears a stage down before it sets up the next.
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
    """Returns the process's model for a bundle and request; loads it on first use.

    Args:
        bundle: a checked bundle.
        request: outputs, pooling and precision to compute.
        num_threads: batches run in parallel; None means one per core.
        isolate: load it in a child process, see ``IsolatedRuntime``.
        measure_batches: have an isolated one measure the fastest batches.

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
    """Drops the reference to the last used model, so that it is freed before another is loaded."""
    with _lock:
        _last.clear()
    release_free_memory(collect=True)
