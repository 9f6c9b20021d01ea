"""Times implementations of LayerNorm and attention scores and lists the kernels that TensorFlow runs.

Run: ``python -m benchmarks.spellings [--rows 4096] [--rounds 20]``. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

from model_bundle.runtime.tensorflow_setup import import_tensorflow

DIM = 384
HEADS, HEAD_SIZE, TOKENS = 12, 32, 52
EPSILON = 1e-12


def layer_norms(tf: Any, dtype: Any) -> dict[str, Callable[[Any], Any]]:
    """Returns each implementation by name; all map [rows, DIM] of ``dtype`` to the same result."""
    generator = np.random.default_rng(0)
    gamma, beta = generator.normal(size=(2, DIM)).astype(np.float32).astype(dtype.as_numpy_dtype)

    def moments(x: Any, axis: int = -1) -> Any:
        wide = tf.cast(x, tf.float32)
        mean, variance = tf.nn.moments(wide, [axis], keepdims=True)
        wide_gamma, wide_beta = tf.cast(gamma, tf.float32), tf.cast(beta, tf.float32)
        normed = tf.nn.batch_normalization(wide, mean, variance, wide_beta, wide_gamma, EPSILON)
        return tf.cast(normed, dtype)

    def written_out(x: Any) -> Any:
        wide = tf.cast(x, tf.float32)
        mean = tf.reduce_mean(wide, axis=-1, keepdims=True)
        centred = wide - mean
        variance = tf.reduce_mean(tf.square(centred), axis=-1, keepdims=True)
        return tf.cast(centred * tf.math.rsqrt(variance + EPSILON), dtype) * gamma + beta

    def common_pattern(x: Any) -> Any:
        mean = tf.reduce_mean(x, axis=[1], keepdims=True)
        variance = tf.reduce_mean(tf.math.squared_difference(x, mean), axis=[1], keepdims=True)
        scale = tf.math.rsqrt(variance + tf.constant(EPSILON, dtype)) * gamma
        return x * scale + (beta - mean * scale)

    def as_batch_norm(x: Any) -> Any:
        rows = tf.shape(x)[0]
        none = tf.constant([], tf.float32)
        image = tf.reshape(x, tf.stack([1, rows, DIM, 1]))
        normed = tf.raw_ops.FusedBatchNormV3(
            x=image,
            scale=tf.fill([rows], 1.0),
            offset=tf.fill([rows], 0.0),
            mean=none,
            variance=none,
            epsilon=EPSILON,
            data_format="NCHW",
            is_training=True,
        ).y
        return tf.reshape(normed, tf.shape(x)) * gamma + beta

    return {
        "moments + batch_normalization, float32": moments,
        "written out, float32": written_out,
        "the remapper's common pattern": common_pattern,
        "FusedBatchNormV3 of rows as channels": as_batch_norm,
        "moments, compiled by XLA (fixed shape)": tf.function(moments, jit_compile=True),
    }


def attention_scores(tf: Any, dtype: Any) -> dict[str, Callable[[Any], Any]]:
    """Returns attention functions by name; all take queries and keys [2, texts, HEADS, TOKENS, HEAD_SIZE]."""
    bias = np.zeros((1, 1, 1, TOKENS), np.float32)
    bias[..., -2:] = -1e9
    factor = 1 / np.sqrt(HEAD_SIZE)

    def float32_softmax(x: Any) -> Any:
        scores = tf.cast(tf.matmul(x[0] * tf.constant(factor, dtype), x[1], transpose_b=True), tf.float32)
        return tf.cast(tf.nn.softmax(scores + bias), dtype)

    def fused_scores(x: Any) -> Any:
        scores = tf.matmul(x[0], x[1], transpose_b=True) * tf.constant(factor, dtype)
        return tf.nn.softmax(scores + tf.cast(bias, dtype))

    return {"cast, add, softmax in float32": float32_softmax, "product, scale, bias fused": fused_scores}


def kernels(tf: Any, spelling: Callable[[Any], Any], shape: tuple[int | None, ...], dtype: Any) -> str:
    """Returns the kernels that run in a graph optimised as in the runtime."""
    fed = np.ones([4 if size is None else size for size in shape], np.float32).astype(dtype.as_numpy_dtype)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        placeholder = tf.compat.v1.placeholder(dtype, shape)
        output = tf.identity(spelling(placeholder + placeholder))
        metadata = tf.compat.v1.RunMetadata()
        options = tf.compat.v1.RunOptions(trace_level=tf.compat.v1.RunOptions.FULL_TRACE)
        session.run(output, {placeholder: fed})
        session.run(output, {placeholder: fed}, options=options, run_metadata=metadata)
    labels = [n.timeline_label for d in metadata.step_stats.dev_stats for n in d.node_stats]
    names = Counter(label.split(" = ")[1].split("(")[0] for label in labels if " = " in label)
    quiet = {"Const", "_Arg", "_Retval", "NoOp", "Identity"}
    return ", ".join(f"{count} x {name}" for name, count in sorted(names.items()) if name not in quiet)


def measure(
    tf: Any, spellings: dict[str, Callable[[Any], Any]], shape: tuple[int | None, ...], data: Any, rounds: int
) -> dict[str, float]:
    """Returns the median milliseconds of each implementation, measured in turns."""
    spec = [tf.TensorSpec(shape, data.dtype)]
    functions = {
        name: tf.function(lambda x, s=spelling: s(x + x), input_signature=spec, autograph=False)
        for name, spelling in spellings.items()
    }
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(rounds + 3):
        for name, function in functions.items():
            started = time.perf_counter()
            function(data)
            times[name].append(1000 * (time.perf_counter() - started))
    return {name: statistics.median(series[3:]) for name, series in times.items()}


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=20)
    flags = parser.parse_args()
    tf = import_tensorflow()
    for dtype in (tf.float32, tf.bfloat16):
        rows = tf.cast(tf.random.normal([flags.rows, DIM], seed=1), dtype)
        print(f"\nLayerNorm on {dtype.name}[{flags.rows}, {DIM}] (with the addition before it)\n")
        _table(tf, layer_norms(tf, dtype), (None, DIM), rows, dtype, flags.rounds)
        texts = flags.rows // TOKENS
        shape = (2, texts, HEADS, TOKENS, HEAD_SIZE)
        heads = tf.cast(tf.random.normal(shape, seed=2), dtype)
        print(f"\nAttention probabilities of {texts} texts of {TOKENS} tokens, {dtype.name}\n")
        spellings, anyhow = attention_scores(tf, dtype), (2, None, HEADS, TOKENS, HEAD_SIZE)
        _table(tf, spellings, anyhow, heads, dtype, flags.rounds)


def _table(
    tf: Any,
    spellings: dict[str, Callable[[Any], Any]],
    shape: tuple[int | None, ...],
    data: Any,
    dtype: Any,
    rounds: int,
) -> None:
    print("| spelling | ms | kernels |\n|---|---|---|")
    for name, milliseconds in measure(tf, spellings, shape, data, rounds).items():
        print(f"| {name} | {milliseconds:.2f} | {kernels(tf, spellings[name], shape, dtype)} |")


if __name__ == "__main__":
    main()
