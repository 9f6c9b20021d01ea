"""Calibrates a model with some texts and measures its precisions with others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from model_bundle.builders.graphs.int8_plan import Int8Product
from model_bundle.bundle.bundle import ModelBundle
from model_bundle.bundle.specs import ClassQuality, Int8Spec, Precision, PrecisionQuality
from model_bundle.inference.scores import class_logits, class_names, scores_of
from model_bundle.quantize.class_quality import compare_classes
from model_bundle.quantize.observed import Observed, batches_of
from model_bundle.quantize.quality import MAX_COMPARED, compare
from model_bundle.quantize.search import Found, Notify
from model_bundle.runtime.int8_products import LARGEST, NARROW
from model_bundle.text import text_input
from model_bundle.text.prepared import PreparedTexts

# One text in this many is held out to measure with.
HELD_OUT = 3

Plan = Mapping[str, Int8Product]
# A batch of arrays by role to its vectors, float32[texts, dim] at length 1, or to its output of classes.
Run = Callable[[Mapping[str, np.ndarray]], np.ndarray]


class Quantizable(Protocol):
    """A float model whose dense layers can be computed in integers.

    ``has_bfloat16``: whether it has a graph with float products in bfloat16. ``has_mixed``: whether there can
    be one with integer products and others in bfloat16.
    """

    has_bfloat16: bool
    has_mixed: bool

    def observe(self, prepared: PreparedTexts) -> dict[str, Observed]:
        """Runs texts through the float model and returns what entered each dense layer, by its name."""

    def plan(self, observed: Mapping[str, Observed], largest_weight: int) -> dict[str, Int8Product]:
        """Plans the dense layers with weights of a range, see ``choose_product``."""

    def run(self, precision: Precision, plan: Plan) -> Run:
        """Builds the model in a precision, its integer products as planned."""

    def check_gain(self, precision: Precision, plan: Plan, prepared: PreparedTexts, min_gain: float) -> str:
        """Returns how fast a precision is beside float32, in words.

        Raises:
            SettingsError: it is less than ``min_gain`` times as fast.
        """

    def export(self, found: Mapping[Precision, Found], spec: Int8Spec, directory: Path) -> None:
        """Saves the float graphs, unless int8 is alone, and those of each precision that was found."""


class MeasuredTrial:
    """A model, what entered its layers, and its results in float32. See ``search.Trial``.

    Args:
        bundle: the model's.
        model: the float model.
        texts: to calibrate and to measure with.
        notify: is told of progress.
    """

    def __init__(self, bundle: ModelBundle, model: Quantizable, texts: Sequence[str], notify: Notify) -> None:
        self._manifest, self._model = bundle.manifest, model
        manifest = bundle.manifest
        prompt = manifest.prompts.get(manifest.default_prompt or "", "")
        inputs = text_input(bundle.path, manifest, manifest.max_tokens, prompt)
        held_out = [text for place, text in enumerate(texts) if place % HELD_OUT == 0]
        calibration = [text for place, text in enumerate(texts) if place % HELD_OUT]
        self.texts = [inputs.prepare(part[:MAX_COMPARED]) for part in (held_out, calibration)]
        notify(f"calibrating with {len(calibration)} texts, measuring with {len(held_out)} others")
        observed = model.observe(inputs.prepare(calibration))
        # Errors depend on how wide the steps of the weights are, so each precision has its own scales.
        self.plans = {
            Precision.INT8: model.plan(observed, LARGEST),
            Precision.INT7: model.plan(observed, NARROW),
        }
        self._float = self._results(Precision.FLOAT32, {})

    def measure(self, precision: Precision, plan: Plan) -> PrecisionQuality | ClassQuality:
        """Measures a precision; ``plan`` is that of its integer products."""
        found = self._results(precision, plan)
        if self._manifest.task == "classify":
            calibration = found[1], self._float[1]
            multi_label = self._manifest.multi_label
            return compare_classes(found[0], self._float[0], calibration, multi_label=multi_label)
        return compare(found[0], self._float[0], found[1], self._float[1])

    def _results(self, precision: Precision, plan: Plan) -> list[np.ndarray]:
        """Returns vectors or scores of the held-out and the calibration texts."""
        run = self._model.run(precision, plan)
        return [self._collect(run, part) for part in self.texts]

    def _collect(self, run: Run, prepared: PreparedTexts) -> np.ndarray:
        """Returns float32[texts, dim], or the scores float32[rows, labels], a row per text or token."""
        manifest = self._manifest
        per_token = manifest.outputs[manifest.default_output].per_token
        batches = list(batches_of(prepared))
        parts = []
        for batch in batches:
            arrays = prepared.batch(batch)
            # Some graphs fail on fewer texts.
            padded = (
                prepared.batch(np.resize(batch, manifest.min_batch))
                if len(batch) < manifest.min_batch
                else arrays
            )
            rows = run(padded)[: len(batch)]
            parts.append(rows[_real(arrays, rows)] if per_token else rows)
        found = np.concatenate(parts)
        if manifest.task == "classify":
            logits = class_logits(found, len(class_names(manifest)), manifest.scores)
            return scores_of(logits, manifest.scores)
        vectors = np.empty_like(found)
        vectors[np.concatenate(batches)] = found
        return vectors


def _real(arrays: Mapping[str, np.ndarray], rows: np.ndarray) -> np.ndarray:
    """Returns bool[texts, tokens]: which rows of [texts, tokens, labels] are of tokens."""
    if "mask" in arrays:
        real = arrays["mask"] > 0
    else:
        real = np.arange(rows.shape[1]) < arrays["lengths"][:, np.newaxis]
    return np.pad(real, ((0, 0), (0, rows.shape[1] - real.shape[1])))  # a fixed length
