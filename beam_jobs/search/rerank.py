"""Scores found documents together with the query: slower than comparing vectors, and more exact."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from beam_jobs.errors import UsageError
from model_bundle.inference.classifier import Classifier


class Reranker:
    """A bundle of the task ``pairs`` that scores a query with each of some texts.

    Args:
        bundle: a folder, ``gs://`` URL or known name.

    Raises:
        UsageError: the bundle does not score pairs, or gives several scores.
        ModelBundleError: it cannot be used.
    """

    def __init__(self, bundle: str) -> None:
        # One query at a time needs no measured token budget.
        self._classifier = Classifier(bundle, max_batch_tokens=4096)
        manifest = self._classifier.bundle.manifest
        if manifest.task != "pairs" or len(self._classifier.names) != 1:
            what = "takes one text at a time"
            if manifest.task == "pairs":
                what = f"has the labels {', '.join(self._classifier.names)}"
            raise UsageError(
                f"--rerank {bundle}: the bundle {manifest.name} {what}. A reranker gives one score to "
                "two texts; build one with: python -m model_bundle build bert SOURCE --task pairs"
            )

    def scores(self, query: str, texts: Sequence[str]) -> np.ndarray:
        """Returns float32[texts]: how well each answers the query, the best highest.

        Raises:
            ModelRunError: the model failed on one of them.
        """
        return self._classifier.score([(query, text) for text in texts]).scores[:, 0]
