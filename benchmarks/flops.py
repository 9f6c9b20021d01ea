"""Computes the arithmetic operations of an encoder, to relate speed to the machine's limit.

A multiplication and an addition are two operations. Only matrix products are counted: layer norms, softmax,
GELU, embeddings and pooling are below 1 % of them. Padding is not counted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Rows x inner x columns. ``model``: the widest product of MiniLM at a full batch; ``large``: the fastest
# shape of the machine.
PEAK_SHAPES = {"model": (4096, 384, 1536), "large": (4096, 4096, 4096)}


@dataclass(frozen=True)
class EncoderShape:
    """The dimensions that determine the number of operations."""

    num_layers: int
    dim: int
    inner_dim: int


def product_flops(shape: tuple[int, int, int]) -> int:
    """Counts the operations of one matrix product: 2 x rows x inner x columns."""
    rows, inner, columns = shape
    return 2 * rows * inner * columns


def token_flops(shape: EncoderShape) -> int:
    """Counts the operations of one token without attention between tokens.

    A layer has four products of dim x dim (query, key, value, output) and two of dim x inner_dim.
    """
    weights = 4 * shape.dim**2 + 2 * shape.dim * shape.inner_dim
    return shape.num_layers * 2 * weights


def text_flops(shape: EncoderShape, lengths: np.ndarray) -> int:
    """Counts the operations of whole texts.

    Attention multiplies, in each layer, tokens x dim by dim x tokens for the scores and tokens x tokens by
    tokens x dim for the result: 4 x tokens^2 x dim together.

    Args:
        shape: the encoder.
        lengths: int[texts], tokens of each text after truncation.
    """
    lengths = lengths.astype(np.int64)
    attention = 4 * shape.num_layers * shape.dim * int((lengths**2).sum())
    return token_flops(shape) * int(lengths.sum()) + attention
