"""Builds a bundle that also computes in int8 from one that computes in float."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from model_bundle.base.machine import has_fast_bfloat16, has_fast_int8
from model_bundle.builders.assemble import LICENCE_NAME, assemble, check_output, save_module
from model_bundle.builders.bert.build import float_signatures, trace
from model_bundle.builders.bert.int8.search import (
    DEFAULT_BOUNDS,
    Bounds,
    Found,
    Notify,
    Trial,
    float_type,
    integer_encoder,
    search,
)
from model_bundle.builders.graphs.bert_config import BertConfig
from model_bundle.bundle.bundle import ModelBundle
from model_bundle.bundle.describe import describe_quality
from model_bundle.bundle.manifest import SAVED_MODEL_DIR, TOKENIZER_FILE
from model_bundle.bundle.specs import ClassQuality, Int8Spec, Precision, PrecisionQuality
from model_bundle.errors import SettingsError, SourceError
from model_bundle.inference.scores import LabelMode, label_mode
from model_bundle.runtime.golden import Golden
from model_bundle.runtime.int8_products import check_processor

# Fewer texts leave ranges to chance: MiniLM's largest inputs were still growing at 300.
MIN_TEXTS = 32


def quantize_bundle(
    bundle: ModelBundle,
    texts: Sequence[str],
    output: Path,
    notify: Notify = lambda _: None,
    bounds: Bounds = DEFAULT_BOUNDS,
    *,
    only_int8: bool = False,
) -> ModelBundle:
    """Builds the bundle; its float32 and bfloat16 graphs stay as they are, or are left out.

    Args:
        bundle: of a BERT encoder or classifier that this package built.
        texts: like those that it will be used for; every third is held out to measure with.
        output: the folder to create.
        notify: is told of progress.
        bounds: what int8 may cost.
        only_int8: leaves out the float weights of all that is computed in int8, and stores word embeddings
            in 8 bits: less than a third of the size. int7 needs float weights and is left out, too.

    Raises:
        SettingsError: the bundle is of another kind, there are too few texts, or int8 costs more than
            ``bounds`` allow: the message has the figures and the layers to blame.
        SourceError: ``output`` exists, or the graph could not be built again as it was.
    """
    check_output(output)
    _check(bundle, texts)
    from model_bundle.builders.bert.int8.read_encoder import quantize_words, read_encoder
    from model_bundle.runtime.tensorflow_setup import import_tensorflow

    import_tensorflow()
    main = _main_precision()
    config, weights, sentence = read_encoder(bundle)
    from model_bundle.builders.graphs.bert import BertEncoder

    encoder = BertEncoder(config, weights, bundle.manifest.name)
    base = encoder
    if only_int8:
        check_processor(Precision.INT8)
        base = BertEncoder(*quantize_words(config, weights), bundle.manifest.name)
    trial = Trial(bundle, encoder, base, texts, notify, sentence)
    found = {main: search(trial, main, bounds, notify)}
    if main is Precision.INT8 and has_fast_bfloat16():
        found |= _mixed(trial, found[main], bounds, notify)
    if main is Precision.INT8 and not only_int8:
        try:
            found[Precision.INT7] = search(trial, Precision.INT7, bounds, notify)
        except SettingsError as error:
            notify(f"left out: {error}")
    spec = _describe(found, None if only_int8 else trial.measure(Precision.BFLOAT16, {}))
    manifest = bundle.manifest.model_copy(update={"int8": spec})
    if only_int8:
        manifest = manifest.model_copy(update={"signature": spec.signature, "bfloat16_signature": None})

    def write_files(staging: Path) -> None:
        for file in (LICENCE_NAME, TOKENIZER_FILE):
            (staging / file).parent.mkdir(exist_ok=True)
            shutil.copyfile(bundle.path / file, staging / file)
        _export(base, config, found, spec, staging / SAVED_MODEL_DIR, sentence)

    before = Golden.read(bundle)
    return assemble(
        output,
        manifest,
        write_files,
        before.texts,
        None if only_int8 else lambda golden: _check_same(golden, before),
        before.reference,
    )


def _mixed(trial: Trial, int8: Found, bounds: Bounds, notify: Notify) -> dict[Precision, Found]:
    """Measures the int8 products with attention in bfloat16; empty if that costs too much."""
    quality = trial.measure(Precision.INT8_BFLOAT16, int8.plan)
    notify(f"{Precision.INT8_BFLOAT16}: {describe_quality(quality)}")
    found = {Precision.INT8_BFLOAT16: dataclasses.replace(int8, quality=quality)}
    return found if bounds.allow(quality) else {}


def _describe(found: Mapping[Precision, Found], bfloat16: PrecisionQuality | ClassQuality | None) -> Int8Spec:
    """Describes a bundle; without bfloat16, one of int8 alone."""
    quality = {precision: each.quality for precision, each in found.items()}
    floats = {precision: each.floats for precision, each in found.items()}
    return Int8Spec(
        signature="serving_int8" if Precision.INT8 in found else None,
        mixed_signature="serving_int8_bfloat16" if Precision.INT8_BFLOAT16 in found else None,
        narrow_signature="serving_int7" if Precision.INT7 in found else None,
        float_layers=floats.get(Precision.INT8, ()),
        narrow_float_layers=floats.get(Precision.INT7),
        only=bfloat16 is None,
        quality=quality | ({} if bfloat16 is None else {Precision.BFLOAT16: bfloat16}),
    )


def _check(bundle: ModelBundle, texts: Sequence[str]) -> None:
    manifest = bundle.manifest
    if manifest.task == "pairs":
        raise SettingsError(
            f"{manifest.name} scores pairs of texts; int8 is offered for vectors and for classes of single "
            "texts. Use --precision bfloat16 where the processor is fast at it."
        )
    if manifest.task == "classify" and label_mode(manifest) is LabelMode.REGRESSION:
        raise SettingsError(
            f"{manifest.name} computes quantities, for which no loss is defined. int8 is offered for vectors "
            "and for classes."
        )
    if len(texts) < MIN_TEXTS:
        raise SettingsError(
            f"--texts: expected at least {MIN_TEXTS} texts like those to embed, better 600; got {len(texts)}."
        )


def _main_precision() -> Precision:
    """Returns int8, or int7 where sums of int8 products saturate; the bundle then has that alone.

    Raises:
        GoldenMismatchError: TensorFlow has no integer products here.
    """
    if has_fast_int8():
        check_processor(Precision.INT8)
        return Precision.INT8
    check_processor(Precision.INT7)
    return Precision.INT7


def _export(
    encoder: Any,
    config: BertConfig,
    found: Mapping[Precision, Found],
    spec: Int8Spec,
    directory: Path,
    sentence: Any,
) -> None:
    import tensorflow as tf

    module = tf.Module()
    if sentence is not None:
        module.sentence = sentence
    signatures: dict[str, Any] = {}
    if not spec.only:
        module.encoder = encoder
        signatures = float_signatures(encoder, config, sentence)
    names = {
        Precision.INT8: spec.signature,
        Precision.INT8_BFLOAT16: spec.mixed_signature,
        Precision.INT7: spec.narrow_signature,
    }
    for precision, each in found.items():
        if precision is Precision.INT8_BFLOAT16:
            integer = module.int8  # the same weights
        else:
            integer = integer_encoder(encoder, precision, each.plan)
        if spec.only:
            integer.drop_float_weights()
        setattr(module, precision, integer)
        signatures[str(names[precision])] = trace(integer, config, float_type(precision), sentence)
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
