"""Builds a bundle that also computes in int8 from one that computes in float."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from model_bundle.builders.assemble import LICENCE_NAME, assemble, check_output, save_module
from model_bundle.builders.bert.build import float_signatures, trace
from model_bundle.builders.graphs.bert_config import BertConfig
from model_bundle.builders.graphs.int8_plan import Int8Product
from model_bundle.bundle.bundle import ModelBundle
from model_bundle.bundle.describe import describe_quality
from model_bundle.bundle.manifest import (
    SAVED_MODEL_DIR,
    TOKENIZER_FILE,
    Int8Spec,
    Pooling,
    Precision,
    PrecisionQuality,
)
from model_bundle.errors import SettingsError, SourceError
from model_bundle.runtime.golden import Golden
from model_bundle.text import text_input

Notify = Callable[[str], None]

# Fewer texts leave ranges to chance: MiniLM's largest inputs were still growing at 300.
MIN_TEXTS = 32
# One text in this many is held out to measure with.
HELD_OUT = 3
# At most this share of an encoder's multiplications may stay float: with more, int8 is not worth its cost.
_MAX_FLOAT_SHARE = 0.25
# Layers tried in float at a time.
_STEP = 2


@dataclass(frozen=True)
class Bounds:
    """What int8 may cost at most, on held-out texts against float32."""

    min_cosine: float = 0.99
    mean_cosine: float = 0.997

    def allow(self, quality: PrecisionQuality) -> bool:
        """Whether a precision is good enough."""
        return quality.min_cosine >= self.min_cosine and quality.mean_cosine >= self.mean_cosine


def quantize_bundle(
    bundle: ModelBundle,
    texts: Sequence[str],
    output: Path,
    notify: Notify = lambda _: None,
    bounds: Bounds = Bounds(),
) -> ModelBundle:
    """Builds the bundle; its float32 and bfloat16 graphs stay as they are.

    Args:
        bundle: of a BERT encoder that this package built.
        texts: like those that it will be used for; every third is held out to measure with.
        output: the folder to create.
        notify: is told of progress.
        bounds: what int8 may cost.

    Raises:
        SettingsError: the bundle is of another kind, there are too few texts, or int8 costs more than
            ``bounds`` allow: the message has the figures and the layers to blame.
        SourceError: ``output`` exists, or the graph could not be built again as it was.
    """
    check_output(output)
    _check(bundle, texts)
    from model_bundle.builders.bert.int8.read_encoder import read_encoder
    from model_bundle.runtime.int8_products import check_processor
    from model_bundle.runtime.tensorflow_setup import import_tensorflow

    import_tensorflow()
    check_processor()
    config, weights = read_encoder(bundle)
    from model_bundle.builders.graphs.bert import BertEncoder

    encoder = BertEncoder(config, weights, bundle.manifest.name)
    trial = _Trial(bundle, encoder, texts, notify)
    plan, spec = _search(trial, bounds, notify)
    manifest = bundle.manifest.model_copy(update={"int8": spec})

    def write_files(staging: Path) -> None:
        for file in (LICENCE_NAME, TOKENIZER_FILE):
            (staging / file).parent.mkdir(exist_ok=True)
            shutil.copyfile(bundle.path / file, staging / file)
        _export(encoder, config, plan, staging / SAVED_MODEL_DIR)

    before = Golden.read(bundle)
    return assemble(
        output,
        manifest,
        write_files,
        before.texts,
        lambda golden: _check_same(golden, before),
        before.reference,
    )


def _check(bundle: ModelBundle, texts: Sequence[str]) -> None:
    if bundle.manifest.task != "embed":
        raise SettingsError(
            f"{bundle.manifest.name} is a classifier; int8 is offered for bundles that compute vectors."
        )
    if len(texts) < MIN_TEXTS:
        raise SettingsError(
            f"--texts: expected at least {MIN_TEXTS} texts like those to embed, better 600; got {len(texts)}."
        )


class _Trial:
    """An encoder, what entered its layers, and its vectors in float32 and bfloat16."""

    def __init__(self, bundle: ModelBundle, encoder: Any, texts: Sequence[str], notify: Notify) -> None:
        import tensorflow as tf

        from model_bundle.builders.bert.int8.calibrate import RecordingEncoder
        from model_bundle.builders.bert.int8.choose import choose_products
        from model_bundle.builders.bert.int8.quality import MAX_COMPARED

        manifest = bundle.manifest
        self._encoder = encoder
        self._pooling = manifest.pooling or Pooling.MEAN
        prompt = manifest.prompts.get(manifest.default_prompt or "", "")
        inputs = text_input(bundle.path, manifest, manifest.max_tokens, prompt)
        held_out = [text for place, text in enumerate(texts) if place % HELD_OUT == 0]
        calibration = [text for place, text in enumerate(texts) if place % HELD_OUT]
        self._texts = [inputs.prepare(part[:MAX_COMPARED]) for part in (held_out, calibration)]
        notify(f"calibrating with {len(calibration)} texts, measuring with {len(held_out)} others")
        observed = RecordingEncoder(encoder).observe(inputs.prepare(calibration))
        kernels = {f"{name}/kernel": encoder.kernel(name) for name in observed}
        self.plan: dict[str, Int8Product] = choose_products(observed, kernels)
        self._float = self._vectors(encoder, tf.float32)
        self.bfloat16 = self._quality(encoder, tf.bfloat16)

    def int8(self, plan: dict[str, Int8Product]) -> PrecisionQuality:
        """Measures a plan."""
        import tensorflow as tf

        from model_bundle.builders.graphs.bert_int8 import Int8BertEncoder

        return self._quality(Int8BertEncoder(self._encoder, plan), tf.float32)

    def _quality(self, encoder: Any, dtype: Any) -> PrecisionQuality:
        from model_bundle.builders.bert.int8.quality import compare

        found = self._vectors(encoder, dtype)
        return compare(found[0], self._float[0], found[1], self._float[1])

    def _vectors(self, encoder: Any, dtype: Any) -> list[np.ndarray]:
        from model_bundle.builders.bert.int8.quality import vectors_of

        run = vectors_of(encoder, self._pooling, dtype)
        return [run(part) for part in self._texts]


def _search(trial: _Trial, bounds: Bounds, notify: Notify) -> tuple[dict[str, Int8Product], Int8Spec]:
    """Leaves the layers with the largest errors in float until the bounds hold, or too many are float."""
    by_error = sorted(trial.plan, key=lambda name: -trial.plan[name].error)
    floats: tuple[str, ...] = ()
    while True:
        plan = {name: product for name, product in trial.plan.items() if name not in floats}
        quality = trial.int8(plan)
        notify(f"int8: {describe_quality(quality)}; {len(floats)} of {len(trial.plan)} layers in float")
        if bounds.allow(quality):
            found = {Precision.INT8: quality, Precision.BFLOAT16: trial.bfloat16}
            return plan, Int8Spec(float_layers=tuple(sorted(floats)), quality=found)
        floats = _with_outer(by_error[: len(floats) + _STEP], trial.plan)
        if _share(floats, trial.plan) > _MAX_FLOAT_SHARE:
            blamed = ", ".join(f"{name} ({trial.plan[name].error:.1%})" for name in by_error[:4])
            raise SettingsError(
                f"int8 costs too much for this model: {describe_quality(quality)}, with the worst layers "
                f"left in float; expected a cosine of at least {bounds.min_cosine} and {bounds.mean_cosine} "
                f"on average. Largest errors of layers: {blamed}. Use float32 or bfloat16."
            )


def _with_outer(names: Sequence[str], plan: dict[str, Int8Product]) -> tuple[str, ...]:
    """Adds the second product of a feed-forward layer whose first one stays float: it takes its output."""
    outer = [f"{name.removesuffix('inner')}outer" for name in names if name.endswith("/ffn/inner")]
    return tuple(dict.fromkeys([*names, *(name for name in outer if name in plan)]))


def _share(names: Sequence[str], plan: dict[str, Int8Product]) -> float:
    sizes = {name: product.kernel.size for name, product in plan.items()}
    return sum(sizes[name] for name in names) / sum(sizes.values())


def _export(encoder: Any, config: BertConfig, plan: dict[str, Int8Product], directory: Path) -> None:
    import tensorflow as tf

    from model_bundle.builders.graphs.bert_int8 import Int8BertEncoder

    module = tf.Module()
    module.encoder = encoder
    module.int8 = Int8BertEncoder(encoder, plan)
    signatures = float_signatures(encoder, config)
    signatures[Int8Spec.model_fields["signature"].default] = trace(module.int8, config, tf.float32)
    save_module(module, directory, signatures)


def _check_same(golden: Golden, before: Golden) -> None:
    """Checks that the float graph computes what it did.

    Raises:
        SourceError: it does not; its shape was not read back correctly.
    """
    for name, expected in before.outputs.items():
        found = golden.outputs.get(name, np.zeros(0, np.float32))
        real = before.mask > 0
        one, other = (a[:, : real.shape[1]][real] if a.ndim == 3 else a for a in (found, expected))
        if one.shape != other.shape or not np.allclose(one, other, rtol=1e-3, atol=1e-4):
            raise SourceError(
                f"Output {name} differs from that of the bundle to quantize, whose graph this release does "
                "not read correctly. Build that bundle again from its source, then quantize it."
            )
