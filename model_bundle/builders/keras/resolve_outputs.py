"""Resolves a model's outputs: vectors or scores, of texts or of tokens, and their names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from model_bundle.builders.bert.text_pairs import overruled, pair_evidence
from model_bundle.builders.keras.options import KerasChoices
from model_bundle.builders.keras.sidecar_files import Sidecar, labels_in, read_labels
from model_bundle.builders.licence import front_matter
from model_bundle.builders.tfhub.bert_preprocessing import LENGTHS
from model_bundle.builders.tfhub.outputs import describe_outputs
from model_bundle.bundle.specs import OutputSpec, Pooling
from model_bundle.errors import SourceError
from model_bundle.runtime.golden import GOLDEN_TEXTS

# The sum of a softmax in float32 differs from 1 by less.
_SUM_TOLERANCE = 1e-4
_USE_FILES = (
    "If there are files of Hugging Face's, build those with: build bert --task pairs. Or use an embedding "
    "model and compare vectors."
)


@dataclass(frozen=True)
class KerasOutputs:
    """A model's outputs, for the manifest; ``notes`` are for its user."""

    specs: dict[str, OutputSpec]
    default: str
    task: Literal["embed", "classify"]
    labels: tuple[str, ...]
    scores: Literal["as_is", "softmax", "sigmoid"]
    multi_label: bool
    regression: bool
    pooling: Pooling | None
    notes: tuple[str, ...]


def resolve_outputs(
    found: Mapping[str, np.ndarray],
    num_tokens: int | None,
    sidecar: Sidecar | None,
    choices: KerasChoices,
    where: str,
    settings: Mapping[str, Any],
) -> KerasOutputs:
    """Classifies each output by its array for the golden texts.

    Args:
        found: arrays by name.
        num_tokens: of the longest golden text; None if only the model knows it.
        sidecar: its configuration may have labels.
        choices: settings that are not in the model.
        where: the model's name.
        settings: transformers' configuration of a classifier inside the model, see ``head_settings``.

    Raises:
        SourceError: no output can be used, several can, labels do not fit, or the classes are of two texts.
    """
    specs, notes = describe_outputs(found, len(GOLDEN_TEXTS), num_tokens, where)
    default = _default(specs, choices.default_output, where)
    labels, why = _labels(found[default], sidecar, choices, where)
    if choices.task == "embed" or not labels:
        return _vectors(specs, default, choices, notes)
    evidence = _pair_evidence(labels, sidecar, settings, where)
    if evidence is not None:
        notes.append(overruled(evidence, where, single_text=choices.single_text, advice=_USE_FILES))
    specs[default] = specs[default].model_copy(
        update={"kind": "class", "per_token": specs[default].kind == "token"}
    )
    scores, regression = _scores(found[default], choices)
    listed = ", ".join(labels[:8]) + (", …" if len(labels) > 8 else "")
    origin = "the model returns scores"
    if scores != "as_is":
        origin = f"scores are the {scores} of the model's output"
    notes.append(f"classes: {listed} ({why}); {origin}")
    return KerasOutputs(
        specs, default, "classify", labels, scores, choices.multi_label, regression, None, tuple(notes)
    )


def _pair_evidence(
    labels: tuple[str, ...], sidecar: Sidecar | None, settings: Mapping[str, Any], where: str
) -> str | None:
    beside = sidecar.config if sidecar else {}
    card = front_matter(sidecar.folder) if sidecar else ""
    return pair_evidence(settings, "") or pair_evidence({**beside, "id2label": labels}, card, where)


def _default(specs: Mapping[str, OutputSpec], wanted: str | None, where: str) -> str:
    usable = sorted(name for name in specs if name != LENGTHS)
    if wanted is not None and wanted not in usable:
        raise SourceError(f"--default_output {wanted}: {where} returns {', '.join(usable)}.")
    if wanted is None and len(usable) > 1:
        lines = "\n".join(
            f"  --default_output {n}  ({specs[n].kind}, {specs[n].dim} numbers)" for n in usable
        )
        raise SourceError(f"{where} returns several outputs. Name the one that jobs write:\n{lines}")
    return wanted or usable[0]


def _vectors(
    specs: dict[str, OutputSpec], default: str, choices: KerasChoices, notes: list[str]
) -> KerasOutputs:
    is_token = specs[default].kind == "token"
    if choices.pooling is not None and not is_token:
        raise SourceError(
            f"--pooling {choices.pooling}: {default} is already one vector per text. Omit the option."
        )
    pooling = (choices.pooling or Pooling.MEAN) if is_token else None
    what = f"one vector per token, pooled by {pooling}" if pooling else "one vector per text"
    notes.append(f"output {default}: {specs[default].dim} numbers, {what} (for scores: --labels or --task)")
    return KerasOutputs(specs, default, "embed", (), "as_is", False, False, pooling, tuple(notes))


def _labels(
    scores: np.ndarray, sidecar: Sidecar | None, choices: KerasChoices, where: str
) -> tuple[tuple[str, ...], str]:
    """Returns the names of the classes and their origin; none if the output is not a classification."""
    size = scores.shape[-1]
    if choices.labels is not None:
        labels = read_labels(choices.labels)
        if len(labels) != size and not (size == 1 and len(labels) == 2 and not choices.multi_label):
            raise SourceError(
                f"--labels {choices.labels}: {len(labels)} labels, but {where} returns {size} numbers."
            )
        return labels, f"from {choices.labels.name}"
    config: dict[str, Any] = sidecar.config if sidecar else {}
    is_classifier = any("Classification" in str(name) for name in config.get("architectures") or ())
    if "id2label" in config and len(config["id2label"]) == size and is_classifier:
        return labels_in(config, "config.json"), "from config.json"
    if is_classifier or choices.task == "classify" or _is_softmax(scores):
        return tuple(f"LABEL_{index}" for index in range(size)), "name them with --labels"
    return (), ""


def _scores(found: np.ndarray, choices: KerasChoices) -> tuple[Literal["as_is", "softmax", "sigmoid"], bool]:
    """Returns the activation that turns an output into scores, and whether it is a regression."""
    if choices.scores is not None:
        return choices.scores, False
    if np.all((found >= 0) & (found <= 1)):
        return "as_is", False
    if found.shape[-1] == 1:
        return ("sigmoid", False) if choices.multi_label else ("as_is", True)
    return ("sigmoid" if choices.multi_label else "softmax"), False


def _is_softmax(scores: np.ndarray) -> bool:
    return bool(
        scores.shape[-1] > 1
        and np.all(scores >= 0)
        and np.allclose(scores.sum(axis=-1), 1, atol=_SUM_TOLERANCE)
    )
