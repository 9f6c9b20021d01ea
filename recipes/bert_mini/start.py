"""Initial weights: word vectors whose average is already a reasonable text vector."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from model_bundle.builders.graphs.bert_config import BertConfig, weight_shapes

# 192 numbers per token in 8 bits are 6 MB; two layers of this width cost a tenth of the teacher's six.
CONFIG = BertConfig(
    num_layers=2,
    num_heads=6,
    dim=192,
    inner_dim=384,
    vocab_size=30_522,
    max_positions=256,
    num_types=0,
    norm_epsilon=1e-6,
    activation="gelu_tanh",
    norm_first=True,
)
# Source: Arora et al., "A Simple but Tough-to-Beat Baseline for Sentence Embeddings", ICLR 2017.
FREQUENT = 1e-3
# New layers begin close to the identity.
_KERNEL_DEVIATION = 0.05
_ZERO = ("attention/output/kernel", "ffn/outer/kernel")


def principal_axes(vectors: np.ndarray, count: int) -> np.ndarray:
    """Returns float32[dim, count], the directions of largest variance, which preserve cosines best."""
    vectors = vectors.astype(np.float64)
    _, axes = np.linalg.eigh(vectors.T @ vectors)
    axes = axes[:, ::-1][:, :count]
    # The sign of an eigenvector is arbitrary, so it is fixed here.
    return np.asarray(axes * np.sign(axes.sum(axis=0)), np.float32, order="C")


def token_weights(counts: np.ndarray) -> np.ndarray:
    """Returns float32[tokens]: close to 0 for tokens in every text, 1 for rare ones."""
    return np.asarray(FREQUENT / (FREQUENT + counts / counts.sum()), np.float32)


def word_table(
    vectors: np.ndarray, axes: np.ndarray, weights: np.ndarray, silent: Sequence[int]
) -> np.ndarray:
    """Projects the teacher's token vectors to float32[tokens, dim], scaled to match the layers' outputs.

    What all have in common is taken off: averages of it would make every text alike.

    Args:
        vectors: float[tokens, teacher's dim].
        axes: of ``principal_axes``.
        weights: of ``token_weights``.
        silent: tokens without meaning, such as [CLS].
    """
    vectors = vectors.astype(np.float32)
    table: np.ndarray = ((vectors - vectors.mean(axis=0)) @ axes) * weights[:, np.newaxis]
    table *= np.sqrt(axes.shape[1])
    table[list(silent)] = 0.0
    return table


def random_weights(seed: int, config: BertConfig = CONFIG) -> dict[str, np.ndarray]:
    """Returns random, untrained weights."""
    random = np.random.default_rng(seed)
    table = random.normal(0.0, 1.0, (config.vocab_size, config.dim))
    weights = first_weights(table, seed, config)
    silent = [name for name in sorted(weights) if name.endswith(_ZERO)]
    drawn = {name: random.normal(0.0, _KERNEL_DEVIATION, weights[name].shape) for name in silent}
    return weights | {name: value.astype(np.float32) for name, value in drawn.items()}


def first_weights(table: np.ndarray, seed: int, config: BertConfig = CONFIG) -> dict[str, np.ndarray]:
    """Returns all weights: the table, and layers close to the identity."""
    random = np.random.default_rng(seed)
    weights = {}
    for name, shape in sorted(weight_shapes(config).items()):
        if name == "embeddings/word":
            value = table
        elif name.endswith("gamma"):
            value = np.ones(shape)
        elif name.endswith("kernel") and not name.endswith(_ZERO):
            value = random.normal(0.0, _KERNEL_DEVIATION, shape)
        else:
            value = np.zeros(shape)
        weights[name] = value.astype(np.float32)
    return weights
