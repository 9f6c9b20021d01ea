"""Measures the machine's limit: TensorFlow's matrix product with a constant weight."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.flops import PEAK_SHAPES, product_flops
from benchmarks.systems.protocol import claim_stdout, peak_memory_bytes, serve

# Duration of a block of products in seconds; the best of several blocks is the peak.
_BLOCK_SECONDS = 0.3
_BLOCKS = 4


def _prepare(name: str, dtype: str) -> Callable[[], float]:
    """Builds one product; returns a function that measures the FLOP/s of the best block."""
    import tensorflow as tf

    rows, inner, columns = PEAK_SHAPES[name]
    left = tf.cast(tf.random.normal([rows, inner], seed=1), dtype)
    weight = tf.cast(tf.random.normal([inner, columns], seed=2), dtype).numpy()

    @tf.function(autograph=False, input_signature=[tf.TensorSpec([None, inner], dtype)])  # type: ignore[untyped-decorator]  # TensorFlow is not typed
    def multiply(matrix: Any) -> Any:
        return tf.matmul(matrix, tf.constant(weight, dtype))

    def measure() -> float:
        flops = product_flops(PEAK_SHAPES[name])
        multiply(left).numpy()
        started = time.perf_counter()
        multiply(left).numpy()
        count = max(int(_BLOCK_SECONDS / (time.perf_counter() - started)), 1)
        return max(count * flops / _seconds(lambda: multiply(left), count) for _ in range(_BLOCKS))

    return measure


def _seconds(call: Callable[[], Any], count: int) -> float:
    started = time.perf_counter()
    for _ in range(count):
        result = call()
    result.numpy()  # eager calls may return before the product is there
    return time.perf_counter() - started


def main() -> None:
    answers = claim_stdout()
    from model_bundle.runtime.tensorflow_setup import import_tensorflow

    import_tensorflow()
    products = {
        f"{dtype}/{name}": _prepare(name, dtype) for dtype in ("float32", "bfloat16") for name in PEAK_SHAPES
    }

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
