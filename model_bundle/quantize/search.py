"""Measures what int8 costs, and leaves layers in float until it costs little enough."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from model_bundle.builders.graphs.int8_plan import Int8Product
from model_bundle.bundle.describe import describe_quality
from model_bundle.bundle.specs import ClassQuality, Precision, PrecisionQuality
from model_bundle.errors import SettingsError

Notify = Callable[[str], None]

# At most this share of an encoder's multiplications may stay float: with more, int8 is not worth its cost.
_MAX_FLOAT_SHARE = 0.25
# So many of the layers with the largest errors are tried in float.
_TRIED = 6


@dataclass(frozen=True)
class Bounds:
    """What int8 may cost at most, on held-out texts against float32.

    ``min_cosine``, ``mean_cosine``: of vectors. ``same_labels``, ``max_difference``: the share of equal
    labels of a classifier, and how far a score may be off. ``min_gain``: how many times as fast it must be at
    least; less is not worth a loss of quality and a bundle of one and a quarter of the size.
    """

    min_cosine: float = 0.99
    mean_cosine: float = 0.997
    same_labels: float = 0.99
    max_difference: float = 0.1
    min_gain: float = 1.1

    def __str__(self) -> str:
        return (
            f"a cosine of at least {self.min_cosine} and {self.mean_cosine} on average, or "
            f"{self.same_labels:.0%} of a classifier's labels and scores within {self.max_difference}"
        )

    def allow(self, quality: PrecisionQuality | ClassQuality) -> bool:
        """Whether a precision is good enough."""
        if isinstance(quality, ClassQuality):
            return quality.same_labels >= self.same_labels and quality.max_difference <= self.max_difference
        return quality.min_cosine >= self.min_cosine and quality.mean_cosine >= self.mean_cosine


DEFAULT_BOUNDS = Bounds()


class Trial(Protocol):
    """How each precision computes dense layers, by name, and what that costs."""

    @property
    def plans(self) -> Mapping[Precision, Mapping[str, Int8Product]]:
        """Plans by precision."""

    def measure(
        self, precision: Precision, plan: Mapping[str, Int8Product]
    ) -> PrecisionQuality | ClassQuality:
        """Measures a precision; ``plan`` is that of its integer products."""


@dataclass(frozen=True)
class Found:
    """The integer products of a precision, what they cost, and the layers that stay float."""

    plan: Mapping[str, Int8Product]
    quality: PrecisionQuality | ClassQuality
    floats: tuple[str, ...]


def search(trial: Trial, precision: Precision, bounds: Bounds, notify: Notify) -> Found:
    """Leaves layers in float until the bounds hold, those first that gain most for their size.

    Raises:
        SettingsError: too many would be float.
    """
    whole = trial.plans[precision]
    by_error = sorted(whole, key=lambda name: -whole[name].error)
    waiting: list[str] | None = None
    floats: tuple[str, ...] = ()
    while True:
        plan = {name: product for name, product in whole.items() if name not in floats}
        quality = trial.measure(precision, plan)
        notify(f"{precision}: {describe_quality(quality)}; {len(floats)} of {len(whole)} layers in float")
        if bounds.allow(quality):
            return Found(plan, quality, tuple(sorted(floats)))
        if waiting is None:
            waiting = _by_gain(trial, precision, by_error)
        floats = _with_outer([*floats, next(name for name in waiting if name not in floats)], whole)
        if _share(floats, whole) > _MAX_FLOAT_SHARE:
            blamed = ", ".join(f"{name} ({whole[name].error:.1%})" for name in by_error[:4])
            raise SettingsError(
                f"{precision} costs too much for this model: {describe_quality(quality)}, with the worst "
                f"layers left in float; expected {bounds}. Largest errors of layers: {blamed}. Use float32 "
                "or bfloat16."
            )


def _by_gain(trial: Trial, precision: Precision, by_error: Sequence[str]) -> list[str]:
    """Sorts layers by what being float gains per weight; those with small errors come last.

    With all candidates in float, each is computed in integers in turn: the other way round, one bad layer
    would hide another. A layer's own error says less: what attention adds to the residual is smaller than
    what a feed-forward layer adds.
    """
    whole = trial.plans[precision]

    def loss_with(floats: Sequence[str]) -> float:
        return _loss(trial.measure(precision, {n: p for n, p in whole.items() if n not in floats}))

    candidates = _with_outer(by_error[:_TRIED], whole)
    least = loss_with(candidates)
    gains = {}
    for name in candidates:
        # An inner layer in float takes its outer layer with it.
        others = [n for n in candidates if name not in _with_outer([n], whole)]
        gains[name] = (loss_with(others) - least) / _share([name], whole)
    return [*sorted(gains, key=lambda name: -gains[name]), *(n for n in by_error if n not in gains)]


def _loss(quality: PrecisionQuality | ClassQuality) -> float:
    return quality.max_difference if isinstance(quality, ClassQuality) else 1 - quality.mean_cosine


def _with_outer(names: Sequence[str], plan: Mapping[str, Int8Product]) -> tuple[str, ...]:
    """Adds the second product of a feed-forward layer whose first one stays float: it takes its output."""
    outer = [name for name, product in plan.items() if product.inner in names]
    return tuple(dict.fromkeys([*names, *outer]))


def _share(names: Sequence[str], plan: Mapping[str, Int8Product]) -> float:
    sizes = {name: product.kernel.size for name, product in plan.items()}
    return sum(sizes[name] for name in names) / sum(sizes.values())
