"""The classification head of a BERT: its configuration, and the names of its weights.

Heads that classify texts are two dense layers: one on the first token with tanh (BERT's pooler, RoBERTa's
``classifier.dense``) or ReLU (DistilBERT's ``pre_classifier``), called the pooler in our graph, and one from
there to the labels. Heads that classify tokens have only the second.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from model_bundle.builders.bert.weight_names import GraphWeight, slashed
from model_bundle.builders.weights.stored import StoredWeights
from model_bundle.bundle.specs import PairTruncation
from model_bundle.errors import SourceError

_TASKS = {"ForSequenceClassification": False, "ForTokenClassification": True}
# The same, as named in the layers of transformers' TensorFlow models.
_LAYERS = {"_for_sequence_classification": False, "_for_token_classification": True}
_HEAD = re.compile(r"(?:.*/)?(pre_classifier|classifier(?:/dense|/out_proj)?)/(weight|kernel|bias)")
# Source: run_classifier.py of google-research/bert, which multiplies by the transposed matrix.
_GOOGLE = {
    "output_weights": GraphWeight("classifier/kernel", transposed=True),
    "output_bias": GraphWeight("classifier/bias"),
}
ScoreFunction = Literal["as_is", "softmax", "sigmoid"]
_GENERIC = "LABEL_{}"


@dataclass(frozen=True)
class HeadOptions:
    """The caller's settings of a head; None means as in the configuration.

    ``labels``: a file with one name per line. ``multi_label``: whether several labels may apply at once.
    ``single_text``: it was trained on single texts, whatever its files suggest. ``pairs``: it scores two
    texts together, of which those that are too long lose tokens as ``pair_truncation`` says. ``scores``: the
    activation applied to the logits of pairs.
    """

    labels: Path | None = None
    multi_label: bool | None = None
    single_text: bool = False
    pairs: bool = False
    pair_truncation: PairTruncation = "longest_first"
    scores: ScoreFunction | None = None


@dataclass(frozen=True)
class BertHead:
    """The task of a head; see ``BundleManifest``.

    ``scores`` is the activation applied to its logits; ``pair_truncation`` is set if it scores two texts.
    """

    labels: tuple[str, ...]
    per_token: bool
    multi_label: bool
    regression: bool
    scores: ScoreFunction
    pair_truncation: PairTruncation | None = None

    @property
    def note(self) -> str:
        """A line for the user on what was found."""
        what = "tokens" if self.per_token else "texts" if self.pair_truncation is None else "pairs of texts"
        kind = "regression" if self.regression else "multi-label" if self.multi_label else "single label"
        return f"head: classifies {what}, {kind} (scores: {self.scores}); labels: {', '.join(self.labels)}"


def head_weight(stored: str) -> GraphWeight | None:
    """Returns the graph's weight for a stored weight of a head; None if it is not one.

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
    config: dict[str, Any],
    stored: StoredWeights,
    options: HeadOptions,
    *,
    google: bool,
    where: str,
    activation: ScoreFunction | None = None,
) -> BertHead:
    """Reads the task of a head from configuration and weights.

    Args:
        config: the content of ``config.json``.
        stored: the weights, which determine the number of labels if the configuration does not.
        options: the caller's settings.
        google: the files are from Google's ``run_classifier.py``, whose configuration has no head.
        where: the configuration's file, for errors.
        activation: that of a CrossEncoder, see ``stated_activation``.

    Raises:
        SourceError: there is no head, it is of an unsupported kind, or its labels do not fit.
    """
    per_token = False if google else _per_token(config, stored, where)
    num_stored = _num_stored(stored, where)
    labels = _labels(config, num_stored, options.labels, where)
    problem = config.get("problem_type")
    if per_token and options.pairs:
        raise SourceError(f"{where}: this head classifies tokens; --task pairs needs one that scores texts.")
    if per_token and (options.multi_label or problem in ("regression", "multi_label_classification")):
        raise SourceError(f"{where}: a head that classifies tokens gives each exactly one label.")
    if options.multi_label is not None:
        regression, multi_label = False, options.multi_label
    else:
        # Source: transformers, which treats one label without a problem_type as a regression.
        regression = problem == "regression" or (problem is None and len(labels) == 1 and not per_token)
        multi_label = problem == "multi_label_classification"
    scores: ScoreFunction = "as_is" if regression else "sigmoid" if multi_label else "softmax"
    if not options.pairs:
        return BertHead(labels, per_token, multi_label, regression, scores)
    if len(labels) == 1:
        scores = activation or scores
    return BertHead(labels, False, multi_label, regression, options.scores or scores, options.pair_truncation)


def _per_token(config: dict[str, Any], stored: StoredWeights, where: str) -> bool:
    """Whether a head classifies tokens: by the model's class, or if none is named, by its weights."""
    names = [str(name) for name in config.get("architectures") or ()]
    found = {per_token for name in names for task, per_token in _TASKS.items() if name.endswith(task)}
    if not names:
        found = {
            per_token for name in stored.shapes for layer, per_token in _LAYERS.items() if f"{layer}/" in name
        }
        parts = {weight.name for name in stored.shapes if (weight := head_weight(name))}
        found |= {False} if "pooler/kernel" in parts else set()
    if len(found) != 1:
        raise SourceError(
            f'{where}: "architectures" is {names}; expected one that ends in {" or ".join(_TASKS)}. '
            "Other heads cannot be built; for the encoder alone omit --task. If the entry is missing, add "
            "the class that the model was trained with."
        )
    return found.pop()


def _num_stored(stored: StoredWeights, where: str) -> int:
    heads = {weight.name: name for name in stored.shapes if (weight := head_weight(name))}
    if "classifier/bias" not in heads:
        raise SourceError(
            f"{where}: its weights contain no classifier, so it was not trained to classify. For its vectors "
            "omit --task; for classes name the folder that fine-tuning wrote."
        )
    return int(stored.shapes[heads["classifier/bias"]][0])


def _labels(config: dict[str, Any], num_stored: int, file: Path | None, where: str) -> tuple[str, ...]:
    if file is not None:
        return _checked(read_labels(file), num_stored, str(file))
    names = config.get("id2label")
    if names is None:
        count = config.get("num_labels") or num_stored
        if count != num_stored:
            raise SourceError(_other_number(where, count, num_stored))
        return tuple(_GENERIC.format(index) for index in range(num_stored))
    try:
        by_id = {int(key): str(name) for key, name in names.items()}
    except (AttributeError, ValueError) as error:
        raise SourceError(f"{where}: id2label must map numbers to names, found {names!r}.") from error
    if sorted(by_id) != list(range(len(by_id))):
        raise SourceError(f"{where}: id2label has the ids {sorted(by_id)}, expected 0 to {len(by_id) - 1}.")
    return _checked([by_id[index] for index in sorted(by_id)], num_stored, where)


def read_labels(file: Path) -> list[str]:
    """Reads label names, one per line, in the order of the model's outputs.

    Raises:
        SourceError: the file cannot be read, or a line is empty.
    """
    try:
        names = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"--labels {file} cannot be read as UTF-8 text: {error}") from error
    empty = [number for number, name in enumerate(names, 1) if not name.strip()]
    if empty or not names:
        raise SourceError(f"--labels {file}: line {(empty or [1])[0]} is empty; expected one label per line.")
    return [name.strip() for name in names]


def _checked(labels: Sequence[str], num_stored: int, where: str) -> tuple[str, ...]:
    if len(labels) != num_stored:
        raise SourceError(_other_number(where, len(labels), num_stored))
    repeated = sorted({name for name in labels if labels.count(name) > 1})
    if repeated:
        raise SourceError(f"{where}: the labels {repeated} are repeated; give distinct names with --labels.")
    return tuple(labels)


def _other_number(where: str, number: object, num_stored: int) -> str:
    return (
        f"{where} names {number} labels, the classifier has {num_stored}. Check that they belong to one "
        "model; the right names, one per line, can be given with --labels."
    )
