"""Answers queries: embeds them, finds the nearest rows and fetches the columns to show."""

from __future__ import annotations

import json
from argparse import Namespace
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from beam_jobs.errors import UsageError
from beam_jobs.pipeline.rows.make import word_in
from beam_jobs.search.nearest import Neighbour, nearest
from beam_jobs.search.query import Prompt, QueryEncoder, choose_column
from beam_jobs.search.rerank import Reranker
from beam_jobs.search.where import Condition
from beam_jobs.store.batches import take_rows
from beam_jobs.store.chain import find_collection
from beam_jobs.store.dataset import run_schema, vector_columns
from model_bundle.bundle.specs import Similarity
from model_bundle.errors import ModelRunError

_SHOWN_CHARACTERS = 200
# Characters of context shown on each side of a word.
_CONTEXT_CHARACTERS = 80


@dataclass(frozen=True)
class Hit:
    """A document that was found; ``columns`` are those of its best row, without vectors.

    ``score`` is the reranker's, if there is one.
    """

    similarity: float
    columns: dict[str, Any]
    score: float | None = None

    def numbers(self, similarity: str) -> dict[str, float]:
        """Returns the score, if there is one, and the similarity under its name."""
        scored = {} if self.score is None else {"score": self.score}
        return scored | {similarity: self.similarity}


@dataclass(frozen=True)
class Answer:
    """The documents found for a query; ``hint`` explains missing texts.

    ``similarity`` names what hits are ranked by.
    """

    query: str
    hits: list[Hit]
    hint: str | None
    similarity: Similarity = Similarity.COSINE

    def as_json(self) -> str:
        """Returns one line of JSON; values without a JSON type are written as strings."""
        hits = [
            {name: round(number, 6) for name, number in hit.numbers(self.similarity).items()}
            | {"row": hit.columns}
            for hit in self.hits
        ]
        return json.dumps({"query": self.query, "hits": hits}, ensure_ascii=False, default=str)

    def as_text(self) -> str:
        """Returns a line for the query and one per document."""
        names = [_one_line(hit.columns["doc_id"]) for hit in self.hits]
        width = min(max(map(len, names), default=0), 40)
        lines = [_one_line(self.query)]
        for rank, (hit, name) in enumerate(zip(self.hits, names, strict=True), 1):
            numbers = "  ".join(f"{number:6.3f}" for number in hit.numbers(self.similarity).values())
            lines.append(f"{rank:>3}  {numbers}  {name:<{width}}  {_shown(hit.columns)}".rstrip())
        if not self.hits:
            lines.append("     nothing found")
        return "\n".join(lines + ([f"     {self.hint}"] if self.hint and self.hits else []))


class Searcher:
    """Searches a run with its own model.

    Args:
        flags: parsed flags of ``python -m beam_jobs.search``.

    Raises:
        UsageError, ModelBundleError: the run, a flag or the bundle cannot be used.
    """

    def __init__(self, flags: Namespace) -> None:
        self._run = find_collection(flags.run, only_this_run=flags.only_this_run)
        choose_column(self._run, flags.column)
        schema = run_schema(self._run)
        self._condition = Condition(flags.where, schema) if flags.where is not None else None
        self._shown = [name for name in schema.names if name not in vector_columns(schema)]
        self._hint = None if "text" in schema.names else _text_hint(self._run.manifest.config)
        self._top, self._rerank_top = flags.top, flags.rerank_top
        if flags.rerank is not None:
            _check_texts(schema, self._hint)
        self._reranker = None if flags.rerank is None else Reranker(flags.rerank)
        asked = flags.prompt is not None or flags.prompt_text is not None
        prompt = Prompt(flags.prompt, flags.prompt_text) if asked else None
        self._encoder = QueryEncoder(self._run, flags.bundle, flags.column, prompt, flags.allow_ops)

    def answer(self, queries: list[str]) -> tuple[list[Answer], list[str]]:
        """Answers queries in one pass over the run.

        Returns:
            The answers, and the error messages of queries that cannot be embedded.

        Raises:
            JobError: a file of the run is missing or damaged.
        """
        good, vectors, errors = [], [], []
        for query in queries:
            try:
                vectors.append(self._encoder.encode(query))
                good.append(query)
            except (UsageError, ModelRunError) as error:
                errors.append(str(error))
        if not good:
            return [], errors
        found = nearest(
            self._run,
            np.stack(vectors),
            self._top if self._reranker is None else self._rerank_top,
            column=self._encoder.column,
            condition=self._condition,
            similarity=self._encoder.similarity,
        )
        answers, similarity = [], self._encoder.similarity
        for query, own in zip(good, self._fetch(found), strict=True):
            try:
                answers.append(Answer(query, self._rerank(query, own), self._hint, similarity))
            except ModelRunError as error:
                errors.append(f"{query}: {error}")
        return answers, errors

    def _rerank(self, query: str, hits: list[Hit]) -> list[Hit]:
        """Orders hits by the reranker's scores, if there is one; equal ones stay in the order of vectors."""
        if self._reranker is None or not hits:
            return hits
        scores = self._reranker.scores(query, [hit.columns["text"] for hit in hits])
        scored = [replace(hit, score=float(score)) for hit, score in zip(hits, scores, strict=True)]
        return sorted(scored, key=lambda hit: -(hit.score or 0.0))[: self._top]

    def _fetch(self, found: list[list[Neighbour]]) -> list[list[Hit]]:
        places = sorted({neighbour.place for own in found for neighbour in own})
        columns = dict(zip(places, take_rows(self._run, places, self._shown), strict=True))
        return [[Hit(n.similarity, columns[n.place]) for n in own] for own in found]


def _check_texts(schema: pa.Schema, hint: str | None) -> None:
    """Rejects reranking of runs whose rows have no text, or only words in their context."""
    if hint is not None:
        raise UsageError(f"--rerank scores the query with the texts that were found. {hint}")
    if "word_index" in schema.names:
        raise UsageError("--rerank: the rows of this run are words; it needs documents or windows.")


def _text_hint(config: dict[str, Any]) -> str:
    if config.get("no_text"):
        return "The run was made with --no_text, so there are no texts to show."
    return "The run stores no texts; make it with --keep_text to see them here."


def _shown(columns: dict[str, Any]) -> str:
    """Returns the part of a text to show: a word in its context, a window, or the beginning."""
    text, start, end = (columns.get(name) for name in ("text", "char_start", "char_end"))
    if text is None:
        place = f"characters {start} to {end}" if start is not None else ""
        return _one_line(" ".join(filter(None, [columns.get("word"), place])))
    if start is not None and end is not None and "word_index" in columns:
        before, word, after = word_in(text, start, end)
        return _one_line(f"{before[-_CONTEXT_CHARACTERS:]}[{word}]{after[:_CONTEXT_CHARACTERS]}")
    return _one_line(text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…")


def _one_line(text: str) -> str:
    """Replaces line breaks and control characters with spaces."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
