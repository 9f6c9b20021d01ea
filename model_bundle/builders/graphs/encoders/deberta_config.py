"""The shape of a DeBERTa encoder, and the weights it needs. Without TensorFlow."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from model_bundle.builders.graphs.bert_config import BertConfig, dense_shapes, norm_shapes


@dataclass(frozen=True)
class DebertaConfig(BertConfig):
    """The shape of an encoder.

    ``has_positions``: whether positions are added to the embeddings.
    ``num_relative``: the number of relative positions in either direction that have a vector, 0 without
    relative attention; ``num_buckets``: if not 0, far ones share vectors, by the logarithm of the distance up
    to ``max_relative``.
    ``content_to_position`` and ``position_to_content``: which scores of positions are added, by vectors of
    the layer's own (``own_relative``) or through the weights of its queries and keys.
    ``score_terms``: how many kinds of scores are summed, for their scale.
    ``relative_norm``: whether relative positions are normalised.
    ``joined``: queries, keys and values are one product, head by head, as in the first version.
    ``conv_width``: tokens that a convolution beside the first layer sees; 0 without one.
    """

    has_positions: bool = True
    num_relative: int = 0
    num_buckets: int = 0
    max_relative: int = 0
    content_to_position: bool = False
    position_to_content: bool = False
    own_relative: bool = True
    score_terms: int = 1
    relative_norm: bool = False
    joined: bool = False
    conv_width: int = 0
    conv_activation: str = "tanh"

    def embedding_shapes(self) -> dict[str, tuple[int, ...]]:
        """Returns the shapes of the weights outside of the layers."""
        shapes = super().embedding_shapes()
        if not self.has_positions:
            del shapes["embeddings/position"]
        if self.num_relative:
            shapes["relative/table"] = (2 * self.num_relative, self.dim)
        if self.relative_norm:
            shapes |= norm_shapes("relative/norm", self.dim)
        if self.conv_width:
            shapes |= {"conv/kernel": (self.conv_width, self.dim, self.dim), "conv/bias": (self.dim,)}
            shapes |= norm_shapes("conv/norm", self.dim)
        return shapes

    def layer_shapes(self, layer: str) -> dict[str, tuple[int, ...]]:
        """Returns the shapes of the weights of a layer, whose names begin with ``layer``."""
        dim, attention = self.dim, f"{layer}/attention"
        shapes = super().layer_shapes(layer)
        if self.joined:
            for part in ("query", "key", "value"):
                del shapes[f"{attention}/{part}/kernel"], shapes[f"{attention}/{part}/bias"]
            shapes |= {f"{attention}/joined/kernel": (dim, 3 * dim)}
            shapes |= {f"{attention}/{part}_bias": (dim,) for part in ("query", "value")}
        if self.num_relative and self.own_relative:
            if self.content_to_position:
                shapes |= dense_shapes(f"{attention}/position_key", dim, dim)
                if self.joined:
                    del shapes[f"{attention}/position_key/bias"]
            if self.position_to_content:
                shapes |= dense_shapes(f"{attention}/position_query", dim, dim)
        return shapes

    def relative_rows(self) -> np.ndarray:
        """Returns which relative vector belongs to each distance: int32[2 * max_positions + 1].

        Distances ascend from ``-max_positions``.

        Source: ``make_log_bucket_position`` of transformers, rounded to float32 where it rounds.
        """
        distances = np.arange(-self.max_positions, self.max_positions + 1)
        if self.num_buckets and self.max_relative:
            distances = _buckets(distances, self.num_buckets, self.max_relative)
        return np.clip(distances + self.num_relative, 0, 2 * self.num_relative - 1).astype(np.int32)


def _buckets(distances: np.ndarray, num_buckets: int, max_relative: int) -> np.ndarray:
    """Returns near distances as they are and far ones by their logarithm."""
    half = num_buckets // 2
    far = np.where(np.abs(distances) < half, half - 1, np.abs(distances)).astype(np.float32)
    if half >= max_relative - 1:  # no text is long enough for more
        return distances
    share = _log(np.maximum(far, half) / np.float32(half)) / _log(np.float32((max_relative - 1) / half))
    found = np.ceil(share * np.float32(half - 1)) + np.float32(half)
    return np.where(far <= half, distances, found * np.sign(distances)).astype(np.int64)


def _log(value: np.ndarray | np.float32) -> np.ndarray:
    """Returns the logarithm, correctly rounded to float32 on every machine."""
    return np.log(value.astype(np.float64)).astype(np.float32)
