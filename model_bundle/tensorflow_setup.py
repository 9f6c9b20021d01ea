"""Brings TensorFlow into a process, once, with its memory capped."""

from __future__ import annotations

import os
from typing import Any

from model_bundle.machine import memory_bytes, num_cores

_MEMORY_CAP = "TF_MKL_ALLOC_MAX_BYTES"
# The rest is for the text, the Arrow buffers and the interpreter.
_MEMORY_SHARE = 0.7


def import_tensorflow(num_threads: int | None = None) -> Any:
    """Imports TensorFlow and returns it; the first call in a process sets it up.

    Its allocator is capped below the machine's (or container's) memory, so that a batch that is too large
    raises ResourceExhaustedError, which can be caught, and is not killed by the system. A cap or thread
    count that the process already has is left alone.

    Args:
        num_threads: threads within one operation; None takes every core this process may use.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault(_MEMORY_CAP, str(int(memory_bytes() * _MEMORY_SHARE)))
    import tensorflow as tf

    tf.get_logger().setLevel("ERROR")
    if tf.config.threading.get_intra_op_parallelism_threads() == 0:
        _set_threads(tf, num_threads or num_cores())
    return tf


def _set_threads(tf: Any, num_threads: int) -> None:
    try:
        tf.config.threading.set_intra_op_parallelism_threads(num_threads)
        tf.config.threading.set_inter_op_parallelism_threads(2)
    except RuntimeError:
        return  # TensorFlow has computed something in this process already: its threads are running
