"""Maps the names under which weights are stored to the names of our graph.

Each family has its own table, in ``families``. PyTorch writes ``bert.encoder.layer.0.output.dense.weight``,
transformers' TensorFlow models ``tf_bert_model/bert/encoder/layer_._0/output/dense/kernel:0``, Google
``bert/encoder/layer_0/output/dense/kernel``. All three are our ``layer_0/ffn/outer/kernel``; only the first
is stored transposed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

# Prefixes of an encoder inside a larger model; a Keras file repeats some of them. TFXLMRobertaModel is
# ``tfxlm_roberta_model``, since Keras begins a word only where a capital letter meets a small one.
_PREFIXES = r"(?:(?:bert|distilbert|roberta|mpnet|electra|albert|tf(?:xlm)?_\w+)/)"
_PREFIX = re.compile(rf"^{_PREFIXES}+")
# Whatever encloses the encoder: a variable scope, or another module.
_SCOPE = re.compile(
    rf"^(?P<scope>(?:[^/]+/)*?){_PREFIXES}*embeddings/word_embeddings(?:/(?:weight|embeddings))?$"
)
# The part and the last word of a name. Google's tables have no last word.
_LAST = re.compile(r"^(.+)/(weight|kernel|bias|gamma|beta|embeddings)$")

CLASSIFICATION_HEAD = "classification head"
# A dense layer that both a classifier and a language model may follow.
PREDICTION_HEAD = "prediction head"
# Weights that an encoder does not need, by kind. Any other unexpected weight is an error.
_LEFT_OUT = (
    (r"(.*/)?(adam_[mv]|global_step|beta[12]_power)(_\d+)?", "optimizer state"),
    (r"(embeddings/)?(position_ids|token_type_ids)", "index buffers"),
    (r"(cls|mlm___cls|nsp___cls)/.+", "pre-training heads"),
    (r"(lm_head|vocab_transform|vocab_layer_norm|vocab_projector)/.+", "language model head"),
    (r"(pre_classifier|classifier)/.+|output_(weights|bias)", CLASSIFICATION_HEAD),
    (r"qa_outputs/.+", "question answering head"),
)


@dataclass(frozen=True)
class GraphWeight:
    """A weight of our graph. ``transposed``: whether it is stored as [outputs, inputs]."""

    name: str
    transposed: bool = False


@dataclass(frozen=True)
class NamedPart:
    """Weights of one part of an encoder, by how their names go on.

    ``begins`` is a pattern that the stored names begin with, and ``ours`` what our names begin with instead,
    where ``{}`` stands for what a group of the pattern matched. ``tables`` are arrays as they are, ``dense``
    layers with kernel and bias, ``norms`` with gamma and beta.
    """

    begins: str = ""
    ours: str = ""
    tables: Mapping[str, str] = field(default_factory=dict)
    dense: Mapping[str, str] = field(default_factory=dict)
    norms: Mapping[str, str] = field(default_factory=dict)

    def weight(self, part: str, last: str) -> GraphWeight | None:
        """Returns the graph's weight for a name without its last word; None if it is not of this part."""
        begin = re.match(self.begins, part)
        if begin is None:
            return None
        part, ours = part[begin.end() :], self.ours.format(*begin.groups())
        if part in self.tables and last in ("", "weight", "embeddings"):
            return GraphWeight(f"{ours}{self.tables[part]}")
        if part in self.dense and last in ("weight", "kernel", "bias"):
            kind = "bias" if last == "bias" else "kernel"
            return GraphWeight(f"{ours}{self.dense[part]}/{kind}", transposed=last == "weight")
        if part in self.norms and last in ("weight", "gamma", "bias", "beta"):
            kind = "gamma" if last in ("weight", "gamma") else "beta"
            return GraphWeight(f"{ours}{self.norms[part]}/{kind}")
        return None


@dataclass(frozen=True)
class WeightNames:
    """The names of a family's weights.

    ``left_out``: patterns of weights that an encoder does not need, with their kind, beyond those of BERT.
    """

    parts: tuple[NamedPart, ...]
    left_out: tuple[tuple[str, str], ...] = ()

    def graph_weight(self, stored: str) -> GraphWeight | None:
        """Returns the graph's weight for a stored weight; None if it is not part of an encoder."""
        name = _PREFIX.sub("", slashed(stored))
        match = _LAST.match(name)
        part, last = (match[1], match[2]) if match else (name, "")
        return next((found for each in self.parts if (found := each.weight(part, last))), None)

    def ignored_kind(self, stored: str) -> str | None:
        """Returns the kind of a stored weight that an encoder does not need; None if unknown."""
        name = _PREFIX.sub("", slashed(stored))
        patterns = (*_LEFT_OUT, *self.left_out)
        return next((what for pattern, what in patterns if re.fullmatch(pattern, name)), None)


def enclosing_scope(names: Iterable[str]) -> str:
    """Returns the prefix of an encoder's names if it is a part of something else; empty if it is not.

    >>> enclosing_scope(["step", "module/bert/embeddings/word_embeddings", "module/bert/pooler/dense/bias"])
    'module/'
    """
    found = {name[: match.end("scope")] for name in names if (match := _SCOPE.match(slashed(name)))}
    return found.pop() if len(found) == 1 else ""


def slashed(stored: str) -> str:
    """Converts PyTorch's dots to slashes. TensorFlow's ``layer_._0`` is kept, its ``:0`` removed."""
    if "/" in stored:
        return stored.removesuffix(":0")
    return stored.removesuffix(":0").replace(".", "/")
