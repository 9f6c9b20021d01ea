"""Measures the machine's limit: TensorFlow's matrix product with a constant weight."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from benchmarks.flops import PEAK_SHAPES, product_flops
from benchmarks.systems.protocol import claim_stdout, peak_memory_bytes, serve
from model_bundle.base.machine import has_fast_int8, num_cores

# Duration of a block of products in seconds; the best of several blocks is the peak.
_BLOCK_SECONDS = 0.3
_BLOCKS = 4


def _prepare(name: str, dtype: str) -> Callable[[], float]:
    """Builds one product; returns a function that measures the operations per second of the best block."""
    left, multiply = (_int8_product if dtype == "int8" else _float_product)(name, dtype)

    def measure() -> float:
        flops = product_flops(PEAK_SHAPES[name])
        multiply(left).numpy()
        started = time.perf_counter()
        multiply(left).numpy()
        count = max(int(_BLOCK_SECONDS / (time.perf_counter() - started)), 1)
        return max(count * flops / _seconds(lambda: multiply(left), count) for _ in range(_BLOCKS))

    return measure


def _float_product(name: str, dtype: str) -> tuple[Any, Callable[[Any], Any]]:
    import tensorflow as tf

    rows, inner, columns = PEAK_SHAPES[name]
    left = tf.cast(tf.random.normal([rows, inner], seed=1), dtype)
    weight = tf.cast(tf.random.normal([inner, columns], seed=2), dtype).numpy()

    @tf.function(autograph=False, input_signature=[tf.TensorSpec([None, inner], dtype)])  # type: ignore[untyped-decorator]  # TensorFlow is not typed
    def multiply(matrix: Any) -> Any:
        return tf.matmul(matrix, tf.constant(weight, dtype))

    return left, multiply


def _int8_product(name: str, dtype: str) -> tuple[Any, Callable[[Any], Any]]:
    """Builds a product of int8 values that are already rounded, with a float32 result."""
    import tensorflow as tf

    from model_bundle.runtime.int8_products import Quantized, multiply, quantize_columns

    rows, inner, columns = PEAK_SHAPES[name]
    random = np.random.default_rng(1)
    left = tf.constant(random.integers(-127, 128, (rows, inner)), tf.as_dtype(dtype))
    kernel, scales = quantize_columns(random.standard_normal((inner, columns), np.float32))

    @tf.function(autograph=False, input_signature=[tf.TensorSpec([None, inner], dtype)])  # type: ignore[untyped-decorator]  # TensorFlow is not typed
    def product(matrix: Any) -> Any:
        flat = Quantized(tf.bitcast(matrix, tf.qint8), tf.constant(-1.0), tf.constant(1.0))
        return multiply(flat, tf.constant(kernel), scales, tf.zeros(columns))

    return left, product


def _seconds(call: Callable[[], Any], count: int) -> float:
    # On one core processor time counts, which others do not disturb.
    clock = time.process_time if num_cores() == 1 else time.perf_counter
    started = clock()
    for _ in range(count):
        result = call()
    result.numpy()  # eager calls may return before the product is there
    return clock() - started


def main() -> None:
    answers = claim_stdout()
    from model_bundle.runtime.tensorflow_setup import import_tensorflow

    import_tensorflow()
    dtypes = ["float32", "bfloat16"] + (["int8"] if has_fast_int8() else [])
    products = {f"{dtype}/{name}": _prepare(name, dtype) for dtype in dtypes for name in PEAK_SHAPES}

    def encode(_: Mapping[str, Any]) -> Mapping[str, Any]:
        started, cpu_started = time.perf_counter(), time.process_time()
        peaks = {name: measure() for name, measure in products.items()}
        return {
            "seconds": time.perf_counter() - started,
            "cpu_seconds": time.process_time() - cpu_started,
            "flops_per_second": peaks,
            "peak_memory_bytes": peak_memory_bytes(),
        }

    serve(answers, {"details": {}, "versions": {}}, {"encode": encode})


if __name__ == "__main__":
    main()
