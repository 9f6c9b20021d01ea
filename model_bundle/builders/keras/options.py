"""Settings of the user that are not in a saved model, and lists of table columns as flags take them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from model_bundle.builders.keras.input_roles import Role
from model_bundle.bundle.specs import Pooling


@dataclass(frozen=True)
class LoadChoices:
    """Settings for loading a Keras file.

    ``weights``: a file, or the prefix of a checkpoint. ``model_factory``: ``module:function`` that builds the
    model. ``custom_objects``: ``module:name`` or ``NAME=module:name``, of classes and functions that the file
    names. ``lambdas``: ``module:function`` by the name of the Lambda layer whose byte code it replaces.
    ``hub_handles``: folders by the TF-Hub handle stored in the model. ``allow_code``: run byte code from the
    file.
    """

    weights: Path | None = None
    model_factory: str | None = None
    custom_objects: tuple[str, ...] = ()
    lambdas: Mapping[str, str] = field(default_factory=dict)
    hub_handles: Mapping[str, Path] = field(default_factory=dict)
    allow_code: bool = False


@dataclass(frozen=True)
class KerasChoices:
    """Settings for using a loaded model; None means as in the model or its sidecar files.

    ``inputs``: roles by input name. ``extra_inputs``: table columns by numeric input name.
    ``tokenizer``: a folder. ``labels``: a file. ``word_split`` and ``lowercase`` are for models that take
    words or texts. ``default_output``: the output that jobs write. ``scores``: the
    activation applied to a classifier's output. ``single_text``: see ``HeadOptions`` of BERT. ``allow_ops``
    are operations that the graph may use although they reach beyond it. ``name``, ``licence``, ``origin`` go
    into the manifest.
    """

    loading: LoadChoices = field(default_factory=LoadChoices)
    signature: str | None = None
    inputs: Mapping[str, Role] = field(default_factory=dict)
    extra_inputs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    tokenizer: Path | None = None
    max_tokens: int | None = None
    labels: Path | None = None
    lowercase: bool | None = None
    word_split: Literal["spaces", "unicode"] | None = None
    task: Literal["embed", "classify"] | None = None
    default_output: str | None = None
    scores: Literal["as_is", "softmax", "sigmoid"] | None = None
    multi_label: bool = False
    single_text: bool = False
    pooling: Pooling | None = None
    normalize: bool = False
    allow_ops: tuple[str, ...] = ()
    name: str | None = None
    licence: str | None = None
    origin: str | None = None

    def renamed(self, names: Mapping[str, str]) -> KerasChoices:
        """Returns the same settings for inputs under other names: ``names`` is new by old."""
        return replace(
            self,
            inputs={names.get(name, name): role for name, role in self.inputs.items()},
            extra_inputs={names.get(name, name): columns for name, columns in self.extra_inputs.items()},
        )


_RANGE = re.compile(r"(?P<name>.*?)(?P<first>\d+)\.\.(?P=name)(?P<last>\d+)")


def expand_columns(text: str) -> tuple[str, ...]:
    """Splits a list at commas, and expands ranges.

    >>> expand_columns("age,x_1..x_3")
    ('age', 'x_1', 'x_2', 'x_3')

    Raises:
        ValueError: a name is empty or repeated, or a range ends before it begins.
    """
    columns = [name for part in text.split(",") for name in _expand(part.strip())]
    if "" in columns or len(set(columns)) < len(columns):
        raise ValueError(f"{text!r}: expected different column names between commas")
    return tuple(columns)


def _expand(part: str) -> list[str]:
    match = _RANGE.fullmatch(part)
    if match is None:
        return [part]
    first, last = int(match["first"]), int(match["last"])
    if last < first:
        raise ValueError(f"{part!r} ends before it begins")
    return [f"{match['name']}{number}" for number in range(first, last + 1)]
