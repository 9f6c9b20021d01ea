"""What is known of one architecture: its configuration, the names of its weights, its graph."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from model_bundle.builders.bert.weight_names import WeightNames
from model_bundle.builders.graphs.bert_config import BertConfig
from model_bundle.builders.known_settings import KnownSettings
from model_bundle.errors import SourceError

# Published encoders have at most 48 layers; a graph of as many as this could still be built.
_MOST_LAYERS = 1000
# No vocabulary, width or table is as large. What is larger is refused before anything is made in its size.
_MOST = 2**24

# gelu_python is the exact form; gelu_fast is the tanh form with its constant written out.
_ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "tanh": "tanh",
}


@dataclass(frozen=True)
class Settings:
    """A ``config.json``, read key by key.

    ``kind`` is its ``model_type``, ``has_pooler`` whether the weights include a pooler, which is not in the
    configuration, ``where`` the file, for errors.
    """

    content: dict[str, Any]
    kind: str
    has_pooler: bool
    where: str

    def size(self, key: str, default: int | None = None, least: int = 1, most: int = _MOST) -> int:
        """Returns a whole number.

        Raises:
            SourceError: it is missing without a default, no whole number, or not from ``least`` to ``most``.
        """
        value = self.content.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise SourceError(
                f"{self.where}: {key!r} is {value!r}; expected a whole number from {least} to {most}."
            )
        return value

    def layers(self, key: str, default: int | None = None) -> int:
        """Returns a number of layers. See ``size``."""
        return self.size(key, default, most=_MOST_LAYERS)

    def number(self, key: str, default: float) -> float:
        """Returns a number above 0.

        Raises:
            SourceError: it is none.
        """
        value = self.content.get(key, default)
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < math.inf:
            raise SourceError(f"{self.where}: {key!r} is {value!r}; expected a number above 0.")
        return float(value)

    def pad_id(self, default: int) -> int:
        """Returns the id of padding; null means the default.

        Raises:
            SourceError: it is no whole number of at least 0.
        """
        return default if self.content.get("pad_token_id") is None else self.size("pad_token_id", least=0)

    def activation(self, key: str, default: str) -> str:
        """Returns an activation under the graph's name.

        Raises:
            SourceError: it is not supported.
        """
        name = self.content.get(key, default)
        if not isinstance(name, str) or name not in _ACTIVATIONS:
            raise SourceError(
                f"{self.where}: {key!r} is activation {name!r}; supported are {', '.join(_ACTIVATIONS)}."
            )
        return _ACTIVATIONS[name]

    def flag(self, key: str, default: bool) -> bool:
        """Returns a switch.

        Raises:
            SourceError: it is neither true nor false.
        """
        value = self.content.get(key)
        if value is not None and not isinstance(value, bool):
            raise SourceError(f"{self.where}: {key!r} is {value!r}; expected true or false.")
        return default if value is None else value

    def one_of(self, key: str, default: str, values: Mapping[str, bool]) -> bool:
        """Returns what one of two words stands for.

        Raises:
            SourceError: it is another word.
        """
        word = self.content.get(key) or default
        if not isinstance(word, str) or word not in values:
            raise SourceError(f"{self.where}: {key!r} is {word!r}; expected {' or '.join(values)}.")
        return values[word]


@dataclass(frozen=True)
class Family:
    """An architecture.

    ``name`` is what a bundle's manifest calls it, ``title`` what people do. ``model_types`` are those of
    ``config.json``; ``classes``, how names of transformers' classes begin, serves configurations older than
    that, each with its model type. ``known`` are the settings that ``read`` reads and those it may ignore.
    ``graph`` returns the class of the graph; only then TensorFlow is imported. ``head_activation`` is that
    between the two layers of a head that classifies texts; empty if ``read`` reads it. ``has_int8``: whether
    ``quantize`` takes it.
    """

    name: str
    title: str
    model_types: tuple[str, ...]
    classes: dict[str, str]
    known: KnownSettings
    read: Callable[[Settings], BertConfig]
    names: WeightNames
    graph: Callable[[], Any]
    head_activation: str = "tanh"
    has_int8: bool = False
