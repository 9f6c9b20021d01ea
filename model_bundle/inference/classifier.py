"""Classifies texts in memory, without Beam: the same results as a job, and the reference for its tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from model_bundle.bundle.bundle import ModelBundle
from model_bundle.bundle.specs import Precision, Rows
from model_bundle.errors import SettingsError
from model_bundle.inference.encoder import DEFAULT_BUFFER_TEXTS, Encoder, Numeric
from model_bundle.inference.results import WordRows
from model_bundle.inference.scores import best_first, class_logits, class_names, scores_of
from model_bundle.inference.text_encoder import Texts
from model_bundle.runtime.long_texts import DEFAULT_LONG_TEXTS, LongTexts
from model_bundle.runtime.request import EncodeRequest


@dataclass(frozen=True)
class Classes:
    """The result of a classifier.

    ``logits``: float32[rows, labels], the model's output. ``scores``: the same after the bundle's score
    function. ``row_texts``: int64[rows], the position of each row's text. ``words``: the word of each row,
    where rows are words.
    """

    names: tuple[str, ...]
    logits: np.ndarray
    scores: np.ndarray
    row_texts: np.ndarray
    words: WordRows | None

    @property
    def labels(self) -> list[str]:
        """The best label of each row."""
        return [self.names[index] for index in best_first(self.logits, 1)[:, 0]]


class Classifier:
    """A bundle ready to classify.

    Args:
        bundle: a folder, a known name, or an opened bundle.
        max_tokens, prompt, prompt_text, precision, rows, long_texts: see ``EncodeRequest.resolve_classes``.
        max_batch_tokens, buffer_texts, num_threads: see ``Encoder``.

    Raises:
        SettingsError: the bundle is not a classifier, or an option does not fit it.
    """

    def __init__(
        self,
        bundle: ModelBundle | Path | str,
        *,
        max_tokens: int | None = None,
        prompt: str | None = None,
        prompt_text: str | None = None,
        precision: Precision | str = Precision.FLOAT32,
        rows: Rows | str = Rows.DOCUMENT,
        long_texts: LongTexts = DEFAULT_LONG_TEXTS,
        max_batch_tokens: int | None = None,
        buffer_texts: int = DEFAULT_BUFFER_TEXTS,
        num_threads: int | None = None,
        allow_ops: tuple[str, ...] = (),
    ) -> None:
        self.bundle = bundle if isinstance(bundle, ModelBundle) else ModelBundle.open(bundle, allow_ops)
        request = EncodeRequest.resolve_classes(
            self.bundle,
            max_tokens=max_tokens,
            prompt=prompt,
            prompt_text=prompt_text,
            precision=Precision(precision),
            rows=Rows(rows),
            long_texts=long_texts,
        )
        self._encoder = Encoder.of_request(
            self.bundle,
            request,
            max_batch_tokens=max_batch_tokens,
            buffer_texts=buffer_texts,
            num_threads=num_threads,
        )
        self.names = class_names(self.bundle.manifest)

    def classify(self, texts: Sequence[str], numeric: Numeric = None) -> Classes:
        """Classifies texts, or the words of texts, in order.

        Args:
            texts: any strings.
            numeric: see ``Encoder.encode``.

        Raises:
            ModelRunError: see ``Encoder.encode``.
            SettingsError: the bundle takes two texts; see ``Encoder.encode``.
        """
        if self.bundle.manifest.task == "pairs":
            raise SettingsError(
                f"The bundle {self.bundle.manifest.name} scores two texts together: pass pairs to score()."
            )
        return self._classes(texts, numeric)

    def score(self, pairs: Sequence[tuple[str, str]]) -> Classes:
        """Scores pairs of texts with a bundle of the task ``pairs``, in order.

        >>> reranker = Classifier("bundles/reranker")  # doctest: +SKIP
        >>> reranker.score([("who wrote it?", "a passage"), ("who?", "")]).scores.shape  # doctest: +SKIP
        (2, 1)

        Args:
            pairs: first and second text of each, such as question and passage; either may be empty.

        Returns:
            ``scores`` and ``logits`` are float32[pairs, labels]; a reranker has one label. With windows as
            rows they are float32[windows, labels], and ``row_texts`` is the position of each row's pair.

        Raises:
            ModelRunError: see ``Encoder.encode``; also a pair whose first text leaves the second no room.
            SettingsError: the bundle takes one text, or an element is not a pair of strings.
        """
        name = self.bundle.manifest.name
        if self.bundle.manifest.task != "pairs":
            raise SettingsError(f"The bundle {name} takes one text at a time: pass texts to classify().")
        for at, pair in enumerate(cast(Sequence[Any], pairs)):
            if not isinstance(pair, (tuple, list)) or [type(text) for text in pair] != [str, str]:
                raise SettingsError(f"score() takes pairs of two strings; number {at} is another thing.")
        return self._classes(pairs, None)

    def _classes(self, texts: Texts, numeric: Numeric) -> Classes:
        parts = list(self._encoder.encode_buffers(texts, numeric))
        manifest = self.bundle.manifest
        logits = np.concatenate([part.vectors[manifest.default_output] for part in parts])
        logits = class_logits(logits, len(self.names), manifest.scores)
        starts = np.cumsum([0, *(len(part.num_tokens) for part in parts)])
        rows = [part.row_texts + start for part, start in zip(parts, starts, strict=False)]
        words = [part.words for part in parts if part.words is not None]
        return Classes(
            names=self.names,
            logits=logits,
            scores=scores_of(logits, manifest.scores),
            row_texts=np.concatenate(rows),
            words=join_words(words) if words else None,
        )


def join_words(parts: Sequence[WordRows]) -> WordRows:
    """Concatenates words; at least one part."""
    return WordRows(
        index=np.concatenate([part.index for part in parts]),
        words=[word for part in parts for word in part.words],
        start=np.concatenate([part.start for part in parts]),
        end=np.concatenate([part.end for part in parts]),
    )
