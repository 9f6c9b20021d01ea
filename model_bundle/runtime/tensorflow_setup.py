"""Imports TensorFlow once per process, with capped memory and without its startup messages."""

from __future__ import annotations

import contextlib
import os
import platform
import sys
import tempfile
from collections.abc import Iterator
from threading import Lock
from typing import Any

from model_bundle.base.collection import importing_for_good
from model_bundle.base.machine import memory_bytes, num_cores

# Read by oneDNN's allocator when TensorFlow is imported: bytes.
MEMORY_CAP = "TF_MKL_ALLOC_MAX_BYTES"
# Read at the same time. By default TensorFlow uses oneDNN only on processors with AVX-512 or newer; without
# it there are no fused kernels, no packed weights, and no allocator with statistics and a cap.
ONEDNN = "TF_ENABLE_ONEDNN_OPTS"
# The rest is for texts, Arrow buffers and the interpreter.
_MEMORY_SHARE = 0.7
# Messages that TensorFlow's libraries print on machines without a GPU before a log level can be set.
_GREETINGS = (
    b"absl::InitializeLog()",
    b"oneDNN custom operations are on",
    b"This TensorFlow binary is optimized",
    b"To enable the following instructions",
    b"cudart_stub.cc",
    b"cuda_platform.cc",
    b"cuda_executor.cc",
    b"cuda_diagnostics.cc",
)
_lock = Lock()


def import_tensorflow(parallelism: int = 2, operation_threads: int | None = None) -> Any:
    """Imports TensorFlow and returns it; the first call in a process sets it up.

    Its allocator is capped below the machine's (or container's) memory, so that a batch that is too large
    raises ResourceExhaustedError, which can be caught, instead of being killed by the system. oneDNN is
    switched on for every x86-64 processor. A cap, switch or thread count that is already set is kept.

    Args:
        parallelism: graphs that will run in parallel.
        operation_threads: threads within one operation; None means one per core.
    """
    if "tensorflow" in sys.modules:
        import tensorflow as tf

        return tf
    with _lock, _without_greetings():
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        if platform.machine() in ("x86_64", "AMD64"):
            os.environ.setdefault(ONEDNN, "1")
        os.environ.setdefault(MEMORY_CAP, str(int(memory_bytes() * _MEMORY_SHARE)))
        with importing_for_good():
            import tensorflow as tf

        tf.get_logger().setLevel("ERROR")
        # Threads can only be set before devices exist; listing devices triggers their messages now.
        tf.config.threading.set_intra_op_parallelism_threads(operation_threads or num_cores())
        tf.config.threading.set_inter_op_parallelism_threads(max(parallelism, 2))
        tf.config.list_logical_devices()
        return tf


@contextlib.contextmanager
def _without_greetings() -> Iterator[None]:
    """Holds back what native code writes to standard error, and passes on all but the known messages."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
            held.seek(0)
            lines = [line for line in held if not any(known in line for known in _GREETINGS)]
            if b"".join(lines).strip():
                os.write(2, b"".join(lines))
