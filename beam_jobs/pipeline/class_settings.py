"""Settings of a classification job: which labels and scores each row has."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from typing import Any, Self

from beam_jobs.errors import UsageError
from model_bundle.bundle.manifest import BundleManifest
from model_bundle.inference.scores import DEFAULT_THRESHOLD, LabelMode, ScoreFunction, class_names, label_mode


@dataclass(frozen=True)
class ClassSettings:
    """How a classifier's output becomes columns; created by ``resolve`` on the submitting machine.

    ``names`` are the labels in the order of the scores, ``function`` turns model outputs into scores.
    ``top_k`` None writes the score of every label, otherwise the labels and scores of the ``top_k`` best.
    ``threshold`` is set for multi-label classifiers: a label applies if its score is at least the threshold.
    ``gold`` is a kept column with the true label, which the run's labels are counted against.
    """

    names: tuple[str, ...]
    choice: LabelMode
    function: ScoreFunction
    top_k: int | None = None
    threshold: float | None = None
    keep_logits: bool = False
    gold: str | None = None

    @classmethod
    def resolve(
        cls,
        manifest: BundleManifest,
        *,
        top_k: int | None,
        threshold: float | None,
        keep_logits: bool,
        gold: str | None = None,
    ) -> Self:
        """Reads the labels of a bundle and validates the options against them.

        Raises:
            UsageError: an option does not fit the labels.
        """
        names, choice = class_names(manifest), label_mode(manifest)
        if top_k is not None:
            _check_top_k(top_k, names, choice, manifest.name)
        if choice is LabelMode.MULTI:
            threshold = DEFAULT_THRESHOLD if threshold is None else threshold
            if not math.isfinite(threshold) or (manifest.scores == "sigmoid" and not 0 <= threshold <= 1):
                raise UsageError(
                    f"--threshold {threshold}: expected a score from 0 to 1, which a label must reach."
                )
        elif threshold is not None:
            why = "predicts quantities" if choice is LabelMode.REGRESSION else "assigns one label per text"
            raise UsageError(
                f"--threshold applies only to bundles that assign several labels; {manifest.name} {why}. "
                "Leave it out."
            )
        if gold is not None:
            _check_gold(gold, choice, manifest)
        return cls(names, choice, manifest.scores, top_k, threshold, keep_logits, gold)

    def to_json(self) -> dict[str, Any]:
        """Returns the settings as JSON data, for digests; what is counted changes no row."""
        return {name: value for name, value in asdict(self).items() if name != "gold"}

    def file_metadata(self) -> dict[str, str]:
        """Returns the file metadata about labels and scores; ``labels`` is a JSON list."""
        return {
            "beam_jobs.labels": json.dumps(self.names, ensure_ascii=False),
            "beam_jobs.scores": self.function,
            "beam_jobs.threshold": "none" if self.threshold is None else repr(self.threshold),
            **({} if self.gold is None else {"beam_jobs.gold": self.gold}),
        }


def _check_gold(gold: str, choice: LabelMode, manifest: BundleManifest) -> None:
    if choice is LabelMode.SINGLE and not manifest.outputs[manifest.default_output].per_token:
        return
    what = {LabelMode.MULTI: "assigns several labels", LabelMode.REGRESSION: "predicts quantities"}
    raise UsageError(
        f"--gold_column {gold}: expected a classifier that assigns one label per text; {manifest.name} "
        f"{what.get(choice, 'classifies words')}. Leave it out."
    )


def _check_top_k(top_k: int, names: tuple[str, ...], choice: LabelMode, bundle: str) -> None:
    if choice is LabelMode.REGRESSION:
        raise UsageError(f"--top_k: {bundle} predicts quantities, which have no ranking. Leave it out.")
    if not 1 <= top_k <= len(names):
        some = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
        raise UsageError(
            f"--top_k {top_k}: the bundle {bundle} has {len(names)} labels ({some}); choose 1 to "
            f"{len(names)}."
        )
