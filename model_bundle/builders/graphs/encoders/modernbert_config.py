"""The shape of a ModernBERT encoder, and the weights it needs. Without TensorFlow."""

from __future__ import annotations

from dataclasses import dataclass

from model_bundle.builders.graphs.bert_config import BertConfig


@dataclass(frozen=True)
class ModernBertConfig(BertConfig):
    """The shape of an encoder.

    ``global_layers``: for each layer, whether its tokens see all others, or those at most ``reach`` away.
    ``global_theta`` and ``local_theta``: the base of the rotary positions of either kind of layer.
    ``norm_bias``, ``attention_bias``, ``mlp_bias``, ``head_bias``: whether such layers have biases.
    The pooler is a head's dense layer with its norm; with ``pool_mean`` it takes the mean of real tokens, not
    the first one, and with ``labels_per_token`` each of them.
    """

    global_layers: tuple[bool, ...] = ()
    reach: int = 64
    global_theta: float = 160_000.0
    local_theta: float = 10_000.0
    norm_bias: bool = False
    attention_bias: bool = False
    mlp_bias: bool = False
    head_bias: bool = False
    pool_mean: bool = False

    def embedding_shapes(self) -> dict[str, tuple[int, ...]]:
        """Returns the shapes of the weights outside of the layers; there are no positions."""
        words: dict[str, tuple[int, ...]] = {"embeddings/word": (self.vocab_size, self.dim)}
        return words | self._norm("embeddings/norm") | self._norm("final_norm")

    def layer_shapes(self, layer: str) -> dict[str, tuple[int, ...]]:
        """Returns the shapes of the weights of a layer, whose names begin with ``layer``."""
        dim, inner = self.dim, self.inner_dim
        # The first layer takes the embeddings, which are normalised already.
        shapes = {} if layer == "layer_0" else self._norm(f"{layer}/attention/norm")
        shapes |= _dense(f"{layer}/attention/qkv", dim, 3 * dim, self.attention_bias)
        shapes |= _dense(f"{layer}/attention/output", dim, dim, self.attention_bias)
        shapes |= self._norm(f"{layer}/ffn/norm")
        shapes |= _dense(f"{layer}/ffn/inner", dim, 2 * inner, self.mlp_bias)
        return shapes | _dense(f"{layer}/ffn/outer", inner, dim, self.mlp_bias)

    def head_shapes(self) -> dict[str, tuple[int, ...]]:
        """Returns the shapes of the weights above the last layer; any head has a dense layer and a norm."""
        if not self.has_pooler and not self.num_labels:
            return {}
        shapes = _dense("pooler", self.dim, self.dim, self.head_bias) | self._norm("pooler/norm")
        return shapes | (_dense("classifier", self.dim, self.num_labels, True) if self.num_labels else {})

    def _norm(self, name: str) -> dict[str, tuple[int, ...]]:
        gamma: dict[str, tuple[int, ...]] = {f"{name}/gamma": (self.dim,)}
        return gamma | ({f"{name}/beta": (self.dim,)} if self.norm_bias else {})


def _dense(name: str, inputs: int, outputs: int, bias: bool) -> dict[str, tuple[int, ...]]:
    kernel: dict[str, tuple[int, ...]] = {f"{name}/kernel": (inputs, outputs)}
    return kernel | ({f"{name}/bias": (outputs,)} if bias else {})
