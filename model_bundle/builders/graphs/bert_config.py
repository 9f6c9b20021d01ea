"""The shape of a BERT or of an encoder of its kind, and the weights it needs. Without TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from model_bundle.errors import WeightsMismatchError


@dataclass(frozen=True)
class BertConfig:
    """The shape of an encoder.

    ``num_types`` is 0 if the model has no token types (DistilBERT).
    ``position_offset`` is the position id of the first token: 0 for BERT, ``pad_id + 1`` for RoBERTa, where
    padding ids inside a text do not advance the position.
    ``activation`` is ``gelu`` (exact), ``gelu_tanh`` or ``relu``; ``pooler_activation`` ``tanh`` or one of
    these.
    ``num_labels`` is 0 without a classifier. It takes the pooler's output, or with ``labels_per_token`` each
    token's state.
    ``takes_types``: the graph has an input for the segment of each token; else all are of the first.
    ``norm_first``: each half of a layer normalises its input, not its output, and the embeddings are not
    normalised, so that a token's own vector passes to the end (Xiong et al., arXiv:2002.04745).
    ``quantized_words``: the table of word embeddings is stored in 8 bits, with one scale per row.
    ``embedding_dim``: the width of the embeddings, which a dense layer brings to ``dim``; 0 if they have it.
    ``shared_layers``: for each layer the weights that it uses, by the beginning of their names, one after the
    other; empty if each layer has its own.
    ``relative_buckets``: of the scores' bias by relative position; 0 for none.
    """

    num_layers: int
    num_heads: int
    dim: int
    inner_dim: int
    vocab_size: int
    max_positions: int
    num_types: int
    norm_epsilon: float
    activation: str = "gelu"
    position_offset: int = 0
    pad_id: int = 0
    has_pooler: bool = False
    pooler_activation: str = "tanh"
    num_labels: int = 0
    labels_per_token: bool = False
    takes_types: bool = False
    norm_first: bool = False
    quantized_words: bool = False
    embedding_dim: int = 0
    shared_layers: tuple[tuple[str, ...], ...] = ()
    relative_buckets: int = 0

    @property
    def max_text_positions(self) -> int:
        """How many tokens the position table has room for; RoBERTa's begin after the padding's."""
        return self.max_positions - self.position_offset

    @property
    def layers(self) -> tuple[tuple[str, ...], ...]:
        """What the names of the weights begin with that each layer uses, one after the other."""
        return self.shared_layers or tuple((f"layer_{index}",) for index in range(self.num_layers))

    @property
    def layer_names(self) -> tuple[str, ...]:
        """What the names of the weights of layers begin with, each once."""
        return tuple(dict.fromkeys(name for names in self.layers for name in names))

    def embedding_shapes(self) -> dict[str, tuple[int, ...]]:
        """Returns the shapes of the weights below the first layer."""
        dim = self.embedding_dim or self.dim
        shapes: dict[str, tuple[int, ...]] = {
            "embeddings/word": (self.vocab_size, dim),
            "embeddings/position": (self.max_positions, dim),
        }
        if self.num_types:
            shapes["embeddings/type"] = (self.num_types, dim)
        if self.quantized_words:
            shapes["embeddings/word_scale"] = (self.vocab_size,)
        if not self.norm_first:
            shapes |= norm_shapes("embeddings/norm", dim)
        if self.embedding_dim:
            shapes |= dense_shapes("embeddings/projection", dim, self.dim)
        if self.relative_buckets:
            shapes["embeddings/relative_bias"] = (self.relative_buckets, self.num_heads)
        return shapes

    def layer_shapes(self, layer: str) -> dict[str, tuple[int, ...]]:
        """Returns the shapes of the weights of a layer, whose names begin with ``layer``."""
        dim, inner = self.dim, self.inner_dim
        shapes: dict[str, tuple[int, ...]] = {}
        for part in ("query", "key", "value", "output"):
            shapes |= dense_shapes(f"{layer}/attention/{part}", dim, dim)
        shapes |= norm_shapes(f"{layer}/attention/norm", dim)
        shapes |= dense_shapes(f"{layer}/ffn/inner", dim, inner)
        shapes |= dense_shapes(f"{layer}/ffn/outer", inner, dim)
        shapes |= norm_shapes(f"{layer}/ffn/norm", dim)
        return shapes

    def head_shapes(self) -> dict[str, tuple[int, ...]]:
        """Returns the shapes of the weights above the last layer."""
        shapes = dense_shapes("pooler", self.dim, self.dim) if self.has_pooler else {}
        return shapes | (dense_shapes("classifier", self.dim, self.num_labels) if self.num_labels else {})


def weight_shapes(config: BertConfig) -> dict[str, tuple[int, ...]]:
    """Returns the shape of every weight an encoder needs, by name. Kernels are [inputs, outputs]."""
    shapes = config.embedding_shapes()
    for layer in config.layer_names:
        shapes |= config.layer_shapes(layer)
    return shapes | config.head_shapes()


def dense_shapes(name: str, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of a dense layer's weights."""
    return {f"{name}/kernel": (inputs, outputs), f"{name}/bias": (outputs,)}


def norm_shapes(name: str, dim: int) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of a layer normalisation's weights."""
    return {f"{name}/gamma": (dim,), f"{name}/beta": (dim,)}


def check_weights(config: BertConfig, weights: Mapping[str, np.ndarray], source: str) -> None:
    """Checks that the weights are exactly those the encoder needs.

    Raises:
        WeightsMismatchError: lists every weight that is missing, unexpected or of a wrong shape.
    """
    shapes = weight_shapes(config)
    missing = sorted(shapes.keys() - weights.keys())
    unused = sorted(weights.keys() - shapes.keys())
    wrong = [
        f"{name}: stored {weights[name].shape}, expected {shape}"
        for name, shape in shapes.items()
        if name in weights and weights[name].shape != shape
    ]
    if missing or unused or wrong:
        raise WeightsMismatchError(source, missing=missing, unused=unused, wrong_shapes=wrong)
