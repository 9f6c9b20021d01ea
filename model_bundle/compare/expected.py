"""Texts and the reference vectors, labels or scores of another system, and their pairing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from model_bundle.errors import SettingsError


@dataclass(frozen=True)
class Columns:
    """Names of columns. ``score``: one column, or one per label. Empty or None: the usual names."""

    text: str = "text"
    id: str | None = None
    score: tuple[str, ...] = ()
    label: str | None = None


@dataclass(frozen=True)
class Texts:
    """Texts in order; ``ids`` is None if they have none. ``columns``: all columns of their table."""

    texts: list[str]
    ids: list[str] | None
    columns: Mapping[str, list[Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Expected:
    """What another system computed, one item per text: vectors or scores, labels, or both.

    ``vectors``: float64[dim] or float64[words, dim] per text; one number or one per label if they are scores.
    ``ids`` is None if they are ordered. ``labels``: of each row of a text (one row, or one per word), the
    labels it got. ``label_order``: the labels that the scores belong to, if stated. ``is_partial``: scores
    may be NaN, because only the best were kept. ``threshold``: the score at which labels were assigned, if
    stated.
    """

    vectors: list[np.ndarray] | None
    ids: list[str] | None
    labels: list[list[tuple[str, ...]]] | None = None
    label_order: tuple[str, ...] | None = None
    is_partial: bool = False
    threshold: float | None = None

    def __len__(self) -> int:
        return len(self.vectors if self.vectors is not None else self.labels or [])

    def pick(self, order: Sequence[int]) -> Expected:
        """Returns the items at these positions, without ids."""
        vectors = None if self.vectors is None else [self.vectors[index] for index in order]
        labels = None if self.labels is None else [self.labels[index] for index in order]
        return replace(self, vectors=vectors, labels=labels, ids=None)


def align(texts: Texts, old: Expected) -> tuple[list[str], list[str], Expected]:
    """Pairs texts with their reference, by id where both have ids, else by order.

    Returns:
        The texts, a name for each, and their reference.

    Raises:
        SettingsError: they do not pair up; the message names what is left over.
    """
    if texts.ids is None or old.ids is None:
        if len(texts.texts) != len(old):
            raise SettingsError(
                f"There are {len(texts.texts)} texts and {len(old)} vectors or scores, and not both have "
                "ids: without ids they must be equally many and in the same order."
            )
        return texts.texts, texts.ids or [str(n) for n in range(len(texts.texts))], old
    for what, ids in (("texts", texts.ids), ("expected", old.ids)):
        seen: set[str] = set()
        repeated = sorted({name for name in ids if name in seen or seen.add(name)})  # type: ignore[func-returns-value]
        if repeated:
            raise SettingsError(
                f"--{what}: the ids {_some(repeated)} occur more than once; they must be unique."
            )
    position = {name: index for index, name in enumerate(old.ids)}
    lost = [name for name in texts.ids if name not in position] + sorted(position.keys() - set(texts.ids))
    if lost:
        raise SettingsError(f"The ids {_some(lost)} are in one of --texts and --expected only.")
    return texts.texts, texts.ids, old.pick([position[name] for name in texts.ids])


def _some(names: Sequence[str]) -> str:
    return json.dumps(list(names[:5]), ensure_ascii=False) + (
        f" and {len(names) - 5} more" * (len(names) > 5)
    )
