"""Integer matrix products of oneDNN, and the check that a processor computes them exactly.

TensorFlow registers the operation in its wheels for CPUs but has no Python function for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from model_bundle.bundle.specs import Precision
from model_bundle.errors import GoldenMismatchError

OPERATION = "_QuantizedMatMul"
# The range is symmetric: -128 is never used.
LARGEST = 127
# The same for kernels of 7 bits. oneDNN shifts inputs to 0 to 255 where it has no VNNI, and two products of
# 255 and 64 fit into 16 bits.
NARROW = 64
# Enough products per sum for every kernel to take its main loop.
_CHECKED_INPUTS, _CHECKED_OUTPUTS = 512, 64


@dataclass(frozen=True)
class Quantized:
    """qint8 values with the range that -127 to 127 stand for."""

    values: Any
    low: Any
    high: Any


def quantize(flat: Any, largest: float) -> Quantized:
    """Rounds float32 values to 255 steps between ``-largest`` and ``largest``, and clips the rest."""
    import tensorflow as tf

    limit = tf.constant(largest, tf.float32)
    found = tf.quantization.quantize(
        flat, -limit, limit, tf.qint8, mode="SCALED", round_mode="HALF_TO_EVEN", narrow_range=True
    )
    return Quantized(found.output, found.output_min, found.output_max)


def quantize_columns(kernel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns int8[inputs, outputs] and, per column, the value that 127 stands for: float32[outputs]."""
    scales = scales_of(kernel)
    return np.rint(kernel / scales * LARGEST).astype(np.int8), scales


def scales_of(kernel: np.ndarray) -> np.ndarray:
    """Returns the largest absolute value of each column: float32[outputs], above 0."""
    scales: np.ndarray = np.maximum(np.abs(kernel).max(axis=0), np.float32(1e-12)).astype(np.float32)
    return scales


def narrow_columns(kernel: Any, scales: np.ndarray) -> Any:
    """Rounds a kernel to 7 bits per column in the graph, which becomes a constant when weights do.

    Args:
        kernel: float32[inputs, outputs], a tensor.
        scales: of ``scales_of``, what 64 stands for. To ``multiply``, 127 times 1/64 of them.

    Returns:
        int8[inputs, outputs] from -64 to 64.
    """
    import tensorflow as tf

    return tf.cast(tf.round(kernel / scales * NARROW), tf.int8)


def multiply(
    flat: Quantized,
    kernel: Any,
    scales: np.ndarray,
    bias: Any,
    *,
    activation: str | None = None,
    residual: Any = None,
    largest: float | None = None,
    dtype: Any = None,
) -> Any:
    """Multiplies by an int8 kernel in one oneDNN kernel, with what follows a dense layer fused to it.

    Args:
        flat: qint8[rows, inputs].
        kernel: int8[inputs, outputs], a variable or constant; packed at the first call.
        scales: float32[outputs], see ``quantize_columns``.
        bias: float32[outputs].
        activation: an activation that oneDNN fuses, such as ``GeluExact``.
        residual: float32[rows, outputs] to add to the result.
        largest: quantises the result again, see ``quantize``.
        dtype: bfloat16 for a result in it.

    Returns:
        float32[rows, outputs] or ``dtype``, or ``Quantized`` where ``largest`` is given.

    Source: MklQuantizedFusedMatMulOp in TensorFlow's mkl_matmul_op_fused.cc.
    """
    import tensorflow as tf
    from tensorflow.python.framework import op_def_library

    inputs = [flat.values, tf.bitcast(kernel, tf.qint8), bias]
    inputs += [] if residual is None else [residual]
    inputs += [flat.low, flat.high, tf.constant(-scales), tf.constant(scales)]
    outputs, last = [dtype or tf.float32], "Dequantize"
    if largest is not None:
        inputs += [tf.constant(-largest, tf.float32), tf.constant(largest, tf.float32)]
        outputs, last = [tf.qint8, tf.float32, tf.float32], "Requantize"
    fused = ["BiasAdd", activation, None if residual is None else "Add", last]
    found = op_def_library.apply_op(
        OPERATION,
        name="int8_product",
        device_inputs=inputs,
        host_inputs=[],
        Tdevice_outputs=outputs,
        Thost_outputs=[],
        T1=tf.qint8,
        T2=tf.qint8,
        Tbias=tf.float32,
        U=tf.float32,
        Tout=outputs[0],
        transpose_a=False,
        transpose_b=False,
        is_weight_const=True,
        is_bias_const=True,
        fused_ops=[name for name in fused if name],
        input_quant_mode="SCALED",
        output_quant_mode="SCALED",
        leakyrelu_alpha=0.2,  # required, unused
    )
    tensors = tf.nest.flatten(found)
    if largest is not None:
        return Quantized(*tensors)
    # The operation does not state its shape, which the fusion of a LayerNorm needs.
    return tf.reshape(tensors[0], tf.stack([tf.shape(flat.values)[0], len(scales)]))


def check_processor(precision: Precision = Precision.INT8) -> None:
    """Checks that the largest possible sums of a precision with integer products come out right.

    Processors without VNNI add pairs of products in 16 bits, which saturate if the library does not prevent
    it: results would be wrong for some texts only.

    Raises:
        GoldenMismatchError: sums saturate, or TensorFlow has no integer products here.
    """
    largest = NARROW if precision is Precision.INT7 else LARGEST
    expected, found = LARGEST * largest * _CHECKED_INPUTS, largest_sums(largest)
    if not np.all(np.abs(found - expected) <= expected * 1e-3):
        instead = "" if precision is Precision.INT7 else "int7 here if the bundle has it, else "
        raise GoldenMismatchError(
            f"--precision {precision}: sums of products saturate on this processor: expected {expected}, got "
            f"{found.min():.0f} to {found.max():.0f}. Use {instead}float32, or a processor with VNNI or AMX."
        )


def largest_sums(largest: int = LARGEST) -> np.ndarray:
    """Multiplies the largest inputs of both signs with the largest weights.

    Returns:
        float32[2, outputs], the second row negated.
    """
    import tensorflow as tf

    kernel = np.full((_CHECKED_INPUTS, _CHECKED_OUTPUTS), largest, np.int8)
    scales = np.full(_CHECKED_OUTPUTS, LARGEST, np.float32)

    @tf.function(autograph=False)  # type: ignore[untyped-decorator]  # TensorFlow is not typed
    def products(flat: Any) -> Any:
        zeros = tf.zeros(_CHECKED_OUTPUTS)
        return multiply(quantize(flat, float(LARGEST)), tf.constant(kernel), scales, zeros)

    ones = np.full((1, _CHECKED_INPUTS), LARGEST, np.float32)
    try:
        both: np.ndarray = products(tf.constant(np.concatenate([ones, -ones]))).numpy()
    except (tf.errors.OpError, ValueError) as error:
        raise GoldenMismatchError(
            "TensorFlow has no integer products on this machine "
            f"({str(error).splitlines()[0][:200]}). They need x86-64 and oneDNN; use float32 here."
        ) from error
    return both * np.array([[1], [-1]], np.float32)
