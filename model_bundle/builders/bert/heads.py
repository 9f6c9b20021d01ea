"""The classification head of a BERT: what its configuration says of it, and the names its weights go by.

Heads that judge a text are two dense layers: one on the first token with tanh (BERT's pooler, RoBERTa's
``classifier.dense``) or ReLU (DistilBERT's ``pre_classifier``), which our graph calls the pooler, and one
from there to the labels. Heads that judge each token have the second one only.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from model_bundle.builders.bert.weight_names import GraphWeight, slashed
from model_bundle.builders.weights.stored import StoredWeights
from model_bundle.errors import SourceError

_TASKS = {"ForSequenceClassification": False, "ForTokenClassification": True}
# The same as layers of transformers' TensorFlow models are called.
_LAYERS = {"_for_sequence_classification": False, "_for_token_classification": True}
_HEAD = re.compile(r"(?:.*/)?(pre_classifier|classifier(?:/dense|/out_proj)?)/(weight|kernel|bias)")
# Source: run_classifier.py of google-research/bert, which multiplies by the transposed matrix.
_GOOGLE = {
    "output_weights": GraphWeight("classifier/kernel", transposed=True),
    "output_bias": GraphWeight("classifier/bias"),
}
_GENERIC = "LABEL_{}"


@dataclass(frozen=True)
class HeadOptions:
    """What the caller says of a head; None leaves it to the configuration.

    ``labels``: a file with one name a line. ``multi_label``: whether several labels may hold at once.
    """

    labels: Path | None = None
    multi_label: bool | None = None


@dataclass(frozen=True)
class BertHead:
    """What a head decides. ``scores`` is what makes scores of its logits; see ``BundleManifest``."""

    labels: tuple[str, ...]
    per_token: bool
    multi_label: bool
    regression: bool
    scores: Literal["as_is", "softmax", "sigmoid"]

    @property
    def note(self) -> str:
        """Says what was found, for whoever builds."""
        what = "tokens" if self.per_token else "texts"
        kind = "regression" if self.regression else "several labels may hold" if self.multi_label else "one"
        kind = "one label holds" if kind == "one" else kind
        return f"head: judges {what}, {kind} (scores: {self.scores}); labels: {', '.join(self.labels)}"


def head_weight(stored: str) -> GraphWeight | None:
    """Finds what a weight of a head is called in our graph; None where it is none.

    >>> head_weight("classifier.out_proj.weight")
    GraphWeight(name='classifier/kernel', transposed=True)
    >>> head_weight("pre_classifier/tf_distil_bert_for_sequence_classification/pre_classifier/kernel:0")
    GraphWeight(name='pooler/kernel', transposed=False)
    """
    name = slashed(stored)
    if name in _GOOGLE:
        return _GOOGLE[name]
    match = _HEAD.fullmatch(name)
    if match is None:
        return None
    part = "pooler" if match[1] in ("pre_classifier", "classifier/dense") else "classifier"
    last = "bias" if match[2] == "bias" else "kernel"
    return GraphWeight(f"{part}/{last}", transposed=match[2] == "weight")


def read_head(
    config: dict[str, Any], stored: StoredWeights, options: HeadOptions, *, google: bool, where: str
) -> BertHead:
    """Reads what a head decides.

    Args:
        config: the content of ``config.json``.
        stored: the weights, which tell how many labels there are where the configuration does not.
        options: what the caller says.
        google: the files are those of Google's ``run_classifier.py``, whose configuration knows no head.
        where: the configuration's file, for errors.

    Raises:
        SourceError: there is no head, it is of another kind, or its labels do not fit.
    """
    per_token = False if google else _per_token(config, stored, where)
    num_stored = _num_stored(stored, where)
    labels = _labels(config, num_stored, options.labels, where)
    problem = config.get("problem_type")
    if per_token and (options.multi_label or problem in ("regression", "multi_label_classification")):
        raise SourceError(
            f"{where}: a head that judges tokens gives each one label, not several or quantities."
        )
    if options.multi_label is not None:
        regression, multi_label = False, options.multi_label
    else:
        # Source: transformers, which takes one label without a problem_type for a regression.
        regression = problem == "regression" or (problem is None and len(labels) == 1 and not per_token)
        multi_label = problem == "multi_label_classification"
    scores: Literal["as_is", "softmax", "sigmoid"] = (
        "as_is" if regression else "sigmoid" if multi_label else "softmax"
    )
    return BertHead(labels, per_token, multi_label, regression, scores)


def _per_token(config: dict[str, Any], stored: StoredWeights, where: str) -> bool:
    """Tells what a head judges by the model's class; where none is named, by what is stored."""
    names = [str(name) for name in config.get("architectures") or ()]
    found = {judges for name in names for task, judges in _TASKS.items() if name.endswith(task)}
    if not names:
        found = {judges for name in stored.shapes for layer, judges in _LAYERS.items() if f"{layer}/" in name}
        parts = {weight.name for name in stored.shapes if (weight := head_weight(name))}
        found |= {False} if "pooler/kernel" in parts else set()
    if len(found) != 1:
        raise SourceError(
            f'{where}: "architectures" is {names}; expected one that ends in {" or ".join(_TASKS)}. Another '
            "head cannot be built; for the encoder below it leave --task out. Where the configuration is "
            "only silent, write the class there that the model was trained with."
        )
    return found.pop()


def _num_stored(stored: StoredWeights, where: str) -> int:
    heads = {weight.name: name for name in stored.shapes if (weight := head_weight(name))}
    if "classifier/bias" not in heads:
        raise SourceError(
            f"{where}: its weights hold no classifier, so it was not trained to classify. For its vectors "
            "leave --task out; for classes name the folder that fine-tuning wrote."
        )
    return int(stored.shapes[heads["classifier/bias"]][0])


def _labels(config: dict[str, Any], num_stored: int, file: Path | None, where: str) -> tuple[str, ...]:
    if file is not None:
        return _checked(read_labels(file), num_stored, str(file))
    names = config.get("id2label")
    if names is None:
        count = config.get("num_labels") or num_stored
        return _checked([_GENERIC.format(index) for index in range(count)], num_stored, where)
    try:
        by_id = {int(key): str(name) for key, name in names.items()}
    except (AttributeError, ValueError) as error:
        raise SourceError(f"{where}: id2label must map numbers to names, but is {names!r}.") from error
    if sorted(by_id) != list(range(len(by_id))):
        raise SourceError(f"{where}: id2label has the ids {sorted(by_id)}, expected 0 to {len(by_id) - 1}.")
    return _checked([by_id[index] for index in sorted(by_id)], num_stored, where)


def read_labels(file: Path) -> list[str]:
    """Reads label names, one a line, in the order of the model's outputs.

    Raises:
        SourceError: the file cannot be read, or a line is empty.
    """
    try:
        names = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"--labels {file} cannot be read as UTF-8 text: {error}") from error
    empty = [number for number, name in enumerate(names, 1) if not name.strip()]
    if empty or not names:
        raise SourceError(f"--labels {file}: line {(empty or [1])[0]} is empty; expected one label a line.")
    return [name.strip() for name in names]


def _checked(labels: Sequence[str], num_stored: int, where: str) -> tuple[str, ...]:
    if len(labels) != num_stored:
        raise SourceError(
            f"{where} names {len(labels)} labels, the classifier has {num_stored}. They must be of one "
            "model; the right names, one a line, can be given with --labels."
        )
    repeated = sorted({name for name in labels if labels.count(name) > 1})
    if repeated:
        raise SourceError(f"{where}: the labels {repeated} come twice; give names of your own with --labels.")
    return tuple(labels)
