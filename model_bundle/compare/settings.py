"""The settings that determine a vector and in which reference vectors may differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from model_bundle.bundle.bundle import ModelBundle
from model_bundle.bundle.specs import Pooling, Rows
from model_bundle.inference.results import word_states
from model_bundle.inference.scores import class_logits, class_names, scores_of
from model_bundle.runtime.pooling import normalize, pool
from model_bundle.runtime.request import EncodeRequest
from model_bundle.text.window_words import WordParts

_POOLINGS = (Pooling.MEAN, Pooling.FIRST, Pooling.MAX, Pooling.LAST)


@dataclass(frozen=True)
class Preparation:
    """How a text becomes the model's input. None means the bundle's setting.

    ``lowercase``: text is lower-cased first, or casing is kept. ``max_tokens`` 0 means no limit.
    ``boundaries``, ``word_split``: for ELMo.
    """

    lowercase: bool | None = None
    max_tokens: int | None = None
    boundaries: bool | None = None
    word_split: str | None = None
    prompt: str | None = None


@dataclass(frozen=True)
class RawText:
    """A model's outputs for one text, without padding.

    ``outputs``: float32[tokens, dim] or float32[dim] by name. ``pieces``: int32[words, 2], if words were
    requested. ``num_tokens``: before truncation.
    """

    outputs: Mapping[str, np.ndarray]
    pieces: np.ndarray | None
    num_tokens: int


@dataclass(frozen=True)
class Reading:
    """How the vector of a text, or those of its words, are computed from the model's outputs.

    ``pooling`` is None if the output is one vector per text, or rows are words. ``scores``: convert logits to
    scores.
    """

    output: str
    pooling: Pooling | None = None
    normalize: bool = False
    scores: bool = False

    def apply(self, raw: RawText, bundle: ModelBundle, rows: Rows) -> np.ndarray:
        """Returns float32[dim] or float32[words, dim]."""
        manifest, array = bundle.manifest, raw.outputs[self.output]
        if rows is Rows.WORD and raw.pieces is not None:
            parts = WordParts.whole(raw.pieces)
            is_class = bundle.spec(self.output).kind == "class"
            array = word_states(array, parts.first_pieces() if is_class else parts)
        elif self.pooling is not None and len(array):
            mask = np.ones((1, len(array)), dtype=np.int32)
            array = pool(array[np.newaxis], mask, self.pooling)[0]
        elif self.pooling is not None:
            array = np.zeros(array.shape[1], dtype=np.float32)  # a text without a word
        if self.scores:
            logits = class_logits(np.atleast_2d(array), len(class_names(manifest)), manifest.scores)
            array = scores_of(logits, manifest.scores).reshape(*array.shape[:-1], -1)
        return normalize(array) if self.normalize else array


@dataclass(frozen=True)
class Settings:
    """One combination to try."""

    preparation: Preparation
    reading: Reading


def asked_reading(request: EncodeRequest, bundle: ModelBundle) -> Reading:
    """Returns the reading that corresponds to a request."""
    (output,) = request.outputs
    is_class = bundle.spec(output).kind == "class"
    return Reading(output, request.pooling, request.normalize, scores=is_class)


def readings(bundle: ModelBundle, dim: int, rows: Rows) -> Iterator[Reading]:
    """Yields every way to get vectors of this size from a bundle."""
    for name, spec in bundle.manifest.outputs.items():
        if spec.kind == "class":
            if spec.per_token == (rows is Rows.WORD) and dim in (spec.dim, len(class_names(bundle.manifest))):
                yield from (Reading(name, scores=scores) for scores in (True, False))
        elif spec.dim != dim or spec.kind == "length":
            continue
        elif spec.kind == "token":
            poolings = (None,) if rows is Rows.WORD else _POOLINGS
            yield from (Reading(name, pooling, scaled) for pooling in poolings for scaled in (False, True))
        elif rows is Rows.DOCUMENT:
            yield from (Reading(name, None, scaled) for scaled in (False, True))


def preparations(bundle: ModelBundle) -> Iterator[Preparation]:
    """Yields the bundle's own preparation, and those that differ in one setting other than the limit."""
    manifest = bundle.manifest
    yield Preparation()
    spec = manifest.tokenizer
    if spec.kind != "none":
        yield Preparation(lowercase=not spec.lowercase)
    if manifest.elmo is not None:
        yield Preparation(boundaries=not manifest.elmo.boundaries)
    if spec.word_split is not None:
        yield Preparation(word_split="unicode" if spec.word_split == "spaces" else "spaces")
    texts = {"", *manifest.prompts.values()} - {manifest.prompts.get(manifest.default_prompt or "", "")}
    yield from (Preparation(prompt=text) for text in sorted(texts))


def differences(settings: Settings, asked: Reading, bundle: ModelBundle) -> list[str]:
    """Returns how settings differ from the requested ones, as flags where flags exist."""
    return [*_reading_differences(settings.reading, asked, bundle), *_input_differences(settings, bundle)]


def _reading_differences(reading: Reading, asked: Reading, bundle: ModelBundle) -> Iterator[str]:
    spec = bundle.spec(reading.output)
    if reading.output != asked.output:
        if reading.output == "pooler":
            yield "--pooling pooler"
        else:
            yield f"--layer {spec.layer}" if spec.layer is not None else f"the output {reading.output}"
    if reading.pooling not in (None, asked.pooling):
        yield f"--pooling {reading.pooling}"
    if reading.normalize != asked.normalize:
        scaled = "scaled to length 1" if reading.normalize else "not scaled to length 1"
        yield f"vectors {scaled} (build with --normalize {'yes' if reading.normalize else 'no'})"
    if spec.kind == "class" and reading.scores != asked.scores:
        yield "scores" if reading.scores else "logits (classify writes them with --keep_logits)"


def _input_differences(settings: Settings, bundle: ModelBundle) -> Iterator[str]:
    prepared, limit = settings.preparation, bundle.manifest.max_tokens
    if prepared.max_tokens is not None:
        over = limit is not None and (prepared.max_tokens == 0 or prepared.max_tokens > limit)
        value = "no --max_tokens" if prepared.max_tokens == 0 else f"--max_tokens {prepared.max_tokens}"
        yield f"{value} (the bundle was built with {limit}: build it again)" if over else value
    if prepared.lowercase is not None:
        yield (
            "text lower-cased first"
            if prepared.lowercase
            else "casing kept (a tokenizer that keeps capitals)"
        )
    if prepared.boundaries is not None:
        how = "without" if prepared.boundaries else "with"
        yield f"{'with' if prepared.boundaries else 'no'} boundaries (build elmo {how} --no_boundaries)"
    if prepared.word_split is not None:
        yield f"words split otherwise (build with --word_split {prepared.word_split})"
    if prepared.prompt is not None:
        names = [name for name, text in bundle.manifest.prompts.items() if text == prepared.prompt]
        yield f"--prompt {names[0]}" if names else f"--prompt_text {prepared.prompt!r}"
