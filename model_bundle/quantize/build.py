"""Builds a bundle that also computes in int8 from one that computes in float."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from model_bundle.base.machine import has_fast_bfloat16, has_fast_int8
from model_bundle.builders.assemble import LICENCE_NAME, assemble, check_output
from model_bundle.bundle.bundle import ModelBundle
from model_bundle.bundle.describe import describe_quality
from model_bundle.bundle.manifest import SAVED_MODEL_DIR, TOKENIZER_FILE
from model_bundle.bundle.specs import ClassQuality, Int8Spec, Precision, PrecisionQuality
from model_bundle.errors import SettingsError, SourceError
from model_bundle.inference.scores import LabelMode, label_mode
from model_bundle.quantize.search import DEFAULT_BOUNDS, Bounds, Found, Notify, search
from model_bundle.quantize.trial import MeasuredTrial, Quantizable
from model_bundle.runtime.golden import Golden
from model_bundle.runtime.int8_products import check_processor

# Families whose graphs were made by others.
_SAVED_MODELS = ("keras", "hub")
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
        bundle: of a BERT encoder or classifier or an ELMo that this package built, or of another maker's
            model.
        texts: like those that it will be used for; every third is held out to measure with.
        output: the folder to create.
        notify: is told of progress.
        bounds: what int8 may cost.
        only_int8: leaves out the float weights of all that is computed in int8, and stores word embeddings
            in 8 bits: less than a third of the size. int7 needs float weights and is left out, too.

    Raises:
        SettingsError: the bundle is of another kind, there are too few texts, int8 gains nothing, or it costs
            more than ``bounds`` allow: the message has the figures and the layers to blame.
        SourceError: ``output`` exists, or the graph could not be built again as it was.
    """
    check_output(output)
    _check(bundle, texts)
    from model_bundle.runtime.tensorflow_setup import import_tensorflow

    import_tensorflow()
    main = Precision.INT8 if only_int8 else _main_precision()
    if only_int8:
        check_processor(Precision.INT8)
    model = _open(bundle, only_int8=only_int8)
    trial = MeasuredTrial(bundle, model, texts, notify)
    found = {main: search(trial, main, bounds, notify)}
    if gain := model.check_gain(main, found[main].plan, trial.texts[1], bounds.min_gain):
        notify(f"{main}: {gain}")
    if main is Precision.INT8 and has_fast_bfloat16() and model.has_mixed:
        found |= _mixed(trial, found[main], bounds, notify)
    if main is Precision.INT8 and not only_int8:
        try:
            found[Precision.INT7] = search(trial, Precision.INT7, bounds, notify)
        except SettingsError as error:
            notify(f"left out: {error}")
    has_bfloat16 = model.has_bfloat16 and not only_int8
    floats = {Precision.BFLOAT16: trial.measure(Precision.BFLOAT16, {})} if has_bfloat16 else {}
    spec = _describe(found, floats, only=only_int8)
    manifest = bundle.manifest.model_copy(update={"int8": spec})
    if only_int8:
        manifest = manifest.model_copy(update={"signature": spec.signature, "bfloat16_signature": None})

    def write_files(staging: Path) -> None:
        for file in (LICENCE_NAME, TOKENIZER_FILE):
            if (bundle.path / file).exists():  # graphs that tokenize have none
                (staging / file).parent.mkdir(exist_ok=True)
                shutil.copyfile(bundle.path / file, staging / file)
        model.export(found, spec, staging / SAVED_MODEL_DIR)

    before = Golden.read(bundle)
    return assemble(
        output,
        manifest,
        write_files,
        before.texts,
        None if only_int8 else lambda golden: _check_same(golden, before),
        before.reference,
    )


def _open(bundle: ModelBundle, *, only_int8: bool) -> Quantizable:
    """Opens the float model of a bundle."""
    if bundle.manifest.family in _SAVED_MODELS:
        from model_bundle.quantize.saved_model.model import QuantizableSavedModel

        return QuantizableSavedModel(bundle, only_int8=only_int8)
    if bundle.manifest.family == "elmo":
        from model_bundle.quantize.elmo.model import QuantizableElmo

        return QuantizableElmo(bundle, only_int8=only_int8)
    from model_bundle.quantize.bert.encoder import QuantizableBert

    return QuantizableBert(bundle, only_int8=only_int8)


def _mixed(trial: MeasuredTrial, int8: Found, bounds: Bounds, notify: Notify) -> dict[Precision, Found]:
    """Measures the int8 products with attention in bfloat16; empty if that costs too much."""
    quality = trial.measure(Precision.INT8_BFLOAT16, int8.plan)
    notify(f"{Precision.INT8_BFLOAT16}: {describe_quality(quality)}")
    found = {Precision.INT8_BFLOAT16: dataclasses.replace(int8, quality=quality)}
    return found if bounds.allow(quality) else {}


def _describe(
    found: Mapping[Precision, Found],
    floats: Mapping[Precision, PrecisionQuality | ClassQuality],
    *,
    only: bool,
) -> Int8Spec:
    """Describes a bundle; ``floats`` is the quality of other precisions than those with integer products."""
    quality = {precision: each.quality for precision, each in found.items()}
    in_float = {precision: each.floats for precision, each in found.items()}
    return Int8Spec(
        signature="serving_int8" if Precision.INT8 in found else None,
        mixed_signature="serving_int8_bfloat16" if Precision.INT8_BFLOAT16 in found else None,
        narrow_signature="serving_int7" if Precision.INT7 in found else None,
        float_layers=in_float.get(Precision.INT8, ()),
        narrow_float_layers=in_float.get(Precision.INT7),
        only=only,
        quality={**quality, **floats},
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
