"""Measures what int8 costs, and leaves layers in float until it costs little enough."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from model_bundle.builders.graphs.int8_plan import Int8Product
from model_bundle.bundle.bundle import ModelBundle
from model_bundle.bundle.describe import describe_quality
from model_bundle.bundle.specs import ClassQuality, Pooling, Precision, PrecisionQuality
from model_bundle.errors import SettingsError
from model_bundle.runtime.int8_products import NARROW
from model_bundle.text import text_input

Notify = Callable[[str], None]

# One text in this many is held out to measure with.
HELD_OUT = 3
# At most this share of an encoder's multiplications may stay float: with more, int8 is not worth its cost.
_MAX_FLOAT_SHARE = 0.25
# So many of the layers with the largest errors are tried in float.
_TRIED = 6


@dataclass(frozen=True)
class Bounds:
    """What int8 may cost at most, on held-out texts against float32.

    ``min_cosine``, ``mean_cosine``: of vectors. ``same_labels``, ``max_difference``: the share of equal
    labels of a classifier, and how far a score may be off.
    """

    min_cosine: float = 0.99
    mean_cosine: float = 0.997
    same_labels: float = 0.99
    max_difference: float = 0.1

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


class Trial:
    """An encoder, what entered its layers, and its vectors in float32.

    Args:
        bundle: the encoder's.
        encoder: the float encoder.
        base: what integer products are put into: that, or one with word embeddings in 8 bits.
        texts: to calibrate and to measure with.
        notify: is told of progress.
        sentence: the encoder's ``SentenceHead``, if it has one.
    """

    def __init__(
        self,
        bundle: ModelBundle,
        encoder: Any,
        base: Any,
        texts: Sequence[str],
        notify: Notify,
        sentence: Any = None,
    ) -> None:
        import tensorflow as tf

        from model_bundle.builders.bert.int8.calibrate import RecordingEncoder
        from model_bundle.builders.bert.int8.choose import choose_products
        from model_bundle.builders.bert.int8.quality import MAX_COMPARED

        manifest = bundle.manifest
        self._encoder, self._base = encoder, base
        self._manifest, self._sentence = manifest, sentence
        prompt = manifest.prompts.get(manifest.default_prompt or "", "")
        inputs = text_input(bundle.path, manifest, manifest.max_tokens, prompt)
        held_out = [text for place, text in enumerate(texts) if place % HELD_OUT == 0]
        calibration = [text for place, text in enumerate(texts) if place % HELD_OUT]
        self._texts = [inputs.prepare(part[:MAX_COMPARED]) for part in (held_out, calibration)]
        notify(f"calibrating with {len(calibration)} texts, measuring with {len(held_out)} others")
        observed = RecordingEncoder(encoder).observe(inputs.prepare(calibration))
        kernels = {f"{name}/kernel": encoder.kernel(name) for name in observed}
        # Errors depend on how wide the steps of the weights are, so each precision has its own scales.
        self.plans = {
            Precision.INT8: choose_products(observed, kernels),
            Precision.INT7: choose_products(observed, kernels, NARROW),
        }
        self._float = self._results(encoder, tf.float32)

    def measure(self, precision: Precision, plan: dict[str, Int8Product]) -> PrecisionQuality | ClassQuality:
        """Measures a precision; ``plan`` is that of its integer products."""
        from model_bundle.builders.bert.int8.class_quality import compare_classes
        from model_bundle.builders.bert.int8.quality import compare

        encoder = integer_encoder(self._base, precision, plan) if precision.is_integer else self._encoder
        found = self._results(encoder, float_type(precision))
        if self._manifest.task == "classify":
            calibration = found[1], self._float[1]
            multi_label = self._manifest.multi_label
            return compare_classes(found[0], self._float[0], calibration, multi_label=multi_label)
        return compare(found[0], self._float[0], found[1], self._float[1])

    def _results(self, encoder: Any, dtype: Any) -> list[np.ndarray]:
        """Returns vectors or scores of the held-out and the calibration texts."""
        from model_bundle.builders.bert.int8.class_quality import scores_run
        from model_bundle.builders.bert.int8.quality import vectors_of

        if self._manifest.task == "classify":
            run = scores_run(encoder, self._manifest, dtype)
        else:
            run = vectors_of(encoder, self._manifest.pooling or Pooling.MEAN, dtype, self._sentence)
        return [run(part) for part in self._texts]


@dataclass(frozen=True)
class Found:
    """The integer products of a precision, what they cost, and the layers that stay float."""

    plan: dict[str, Int8Product]
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


def _with_outer(names: Sequence[str], plan: dict[str, Int8Product]) -> tuple[str, ...]:
    """Adds the second product of a feed-forward layer whose first one stays float: it takes its output."""
    outer = [f"{name.removesuffix('inner')}outer" for name in names if name.endswith("/ffn/inner")]
    return tuple(dict.fromkeys([*names, *(name for name in outer if name in plan)]))


def _share(names: Sequence[str], plan: dict[str, Int8Product]) -> float:
    sizes = {name: product.kernel.size for name, product in plan.items()}
    return sum(sizes[name] for name in names) / sum(sizes.values())


def float_type(precision: Precision) -> Any:
    """Returns the dtype of a precision's products that are not of integers."""
    import tensorflow as tf

    is_wide = precision not in (Precision.BFLOAT16, Precision.INT8_BFLOAT16)
    return tf.float32 if is_wide else tf.bfloat16


def integer_encoder(encoder: Any, precision: Precision, plan: dict[str, Int8Product]) -> Any:
    """Builds the encoder with the integer products of a plan, beside a float one."""
    from model_bundle.builders.graphs.bert_int8 import Int8BertEncoder, NarrowBertEncoder

    kind = NarrowBertEncoder if precision is Precision.INT7 else Int8BertEncoder
    return kind(encoder, plan)
