"""Texts to vectors in memory, without Beam: what a job computes, and the reference it is held to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from model_bundle.batching import halves, plan_batches
from model_bundle.bundle import ModelBundle
from model_bundle.errors import ModelMemoryError, ModelRunError, NonFiniteError
from model_bundle.manifest import Pooling, Precision
from model_bundle.request import EncodeRequest
from model_bundle.runtime import Runtime, TensorFlowRuntime
from model_bundle.text import PreparedTexts, text_input

# Padded cells of a batch. Measured: the products are large enough, activations stay in cache (see docs).
DEFAULT_BATCH_TOKENS = 4096
_ERRORS = {"out_of_memory": ModelMemoryError, "non_finite": NonFiniteError}
# Texts that are sorted by length together: enough to keep padding near 1 %.
DEFAULT_BUFFER_TEXTS = 4096


@dataclass(frozen=True)
class TextFailure:
    """A text without a result: its position, a stable word to count by, and what happened."""

    text_index: int
    reason: str
    message: str


@dataclass
class EncodedTexts:
    """Results by position of the text.

    ``vectors``: float32[texts, dim] by output name, zero where a text failed. ``num_tokens``,
    ``num_tokens_untruncated``: int32[texts]. ``num_padded_tokens``: cells that were computed.
    """

    vectors: dict[str, np.ndarray]
    num_tokens: np.ndarray
    num_tokens_untruncated: np.ndarray
    num_padded_tokens: int
    failures: list[TextFailure]

    @property
    def was_truncated(self) -> np.ndarray:
        """bool[texts]."""
        truncated: np.ndarray = self.num_tokens < self.num_tokens_untruncated
        return truncated


class TextEncoder:
    """Runs texts through a runtime in length-sorted batches; one bad text costs one text.

    Args:
        bundle: a checked bundle.
        runtime: its loaded model; may be shared by several encoders and threads.
        max_batch_tokens: limit on padded cells of a batch. Halved, for good, when memory runs out.
    """

    def __init__(
        self, bundle: ModelBundle, runtime: Runtime, max_batch_tokens: int = DEFAULT_BATCH_TOKENS
    ) -> None:
        self._manifest = bundle.manifest
        self._runtime = runtime
        self._dims = {name: bundle.spec(name).dim or 0 for name in runtime.request.outputs}
        request = runtime.request
        self._input = text_input(bundle.path, bundle.manifest, request.max_tokens, request.prompt)
        self.max_batch_tokens = max_batch_tokens

    def encode_each(self, texts: Sequence[str]) -> EncodedTexts:
        """Computes what can be computed and lists what cannot."""
        prepared = self._input.prepare(texts)
        result = EncodedTexts(
            vectors={n: np.zeros((len(texts), dim), np.float32) for n, dim in self._dims.items()},
            num_tokens=prepared.lengths,
            num_tokens_untruncated=prepared.num_tokens,
            num_padded_tokens=0,
            failures=[],
        )
        for batch in self._batches(prepared.lengths):
            self._run(prepared, batch, result)
        return result

    def _batches(self, lengths: np.ndarray) -> Iterator[np.ndarray]:
        """Plans batches, and plans the rest again once the budget has shrunk."""
        done = np.zeros(len(lengths), dtype=bool)
        while not done.all():
            waiting, budget = np.flatnonzero(~done), self.max_batch_tokens
            for batch in plan_batches(lengths[waiting], budget, equal_lengths=self._manifest.batch_dependent):
                done[waiting[batch]] = True
                yield waiting[batch]
                if self.max_batch_tokens < budget:
                    break

    def _run(self, prepared: PreparedTexts, batch: np.ndarray, result: EncodedTexts) -> None:
        """Runs a batch; on failure halves it until the culprit is alone."""
        try:
            outputs = self._runtime.run(prepared.batch(self._fill(batch)))
            self._keep(outputs, batch, result)
            longest = int(prepared.lengths[batch].max())
            result.num_padded_tokens += longest * len(batch)
        except ModelRunError as error:
            if len(batch) == 1:
                result.failures.append(TextFailure(int(batch[0]), _reason(error), str(error)))
                return
            if isinstance(error, ModelMemoryError):
                # Half of what failed. A text that fails alone does not count: it may be over any budget.
                cells = int(prepared.lengths[batch].max()) * len(batch)
                self.max_batch_tokens = min(self.max_batch_tokens, max(cells // 2, 1))
            for half in halves(batch):
                self._run(prepared, half, result)

    def _fill(self, batch: np.ndarray) -> np.ndarray:
        """Repeats a text for models that fail on small batches."""
        lack = self._manifest.min_batch - len(batch)
        return np.concatenate([batch, np.repeat(batch[:1], lack)]) if lack > 0 else batch

    def _keep(self, outputs: dict[str, np.ndarray], batch: np.ndarray, result: EncodedTexts) -> None:
        rows = {name: outputs[name][: len(batch)] for name in result.vectors}
        for name, vectors in rows.items():
            if vectors.shape != (len(batch), self._dims[name]):
                raise ModelRunError(
                    f"Output {name} has shape {vectors.shape} for {len(batch)} texts of dimension "
                    f"{self._dims[name]}: the model does not give one vector a text."
                )
        finite = np.all([np.isfinite(vectors).all(axis=1) for vectors in rows.values()], axis=0)
        for name, vectors in rows.items():
            result.vectors[name][batch[finite]] = vectors[finite]
        message = "The model gave NaN or infinity for this text."
        result.failures += [TextFailure(int(index), "non_finite", message) for index in batch[~finite]]


class Encoder:
    """A bundle ready to encode.

    >>> encoder = Encoder("minilm")  # doctest: +SKIP
    >>> encoder.encode(["a text", "another"]).shape  # doctest: +SKIP
    (2, 384)

    Args:
        bundle: a folder, a known name, or an opened bundle.
        layers, pooling, normalize, max_tokens, prompt, prompt_text, precision: see ``EncodeRequest.resolve``.
        max_batch_tokens: limit on padded cells of a batch.
        buffer_texts: texts sorted by length together; bounds memory.
        num_threads: threads within one operation; None takes every core.
    """

    def __init__(
        self,
        bundle: ModelBundle | Path | str,
        *,
        layers: tuple[str, ...] = (),
        pooling: Pooling | str | None = None,
        normalize: bool | None = None,
        max_tokens: int | None = None,
        prompt: str | None = None,
        prompt_text: str | None = None,
        precision: Precision | str = Precision.FLOAT32,
        max_batch_tokens: int = DEFAULT_BATCH_TOKENS,
        buffer_texts: int = DEFAULT_BUFFER_TEXTS,
        num_threads: int | None = None,
    ) -> None:
        self.bundle = bundle if isinstance(bundle, ModelBundle) else ModelBundle.open(bundle)
        self.request = EncodeRequest.resolve(
            self.bundle,
            layers=layers,
            pooling=None if pooling is None else Pooling(pooling),
            normalize=normalize,
            max_tokens=max_tokens,
            prompt=prompt,
            prompt_text=prompt_text,
            precision=Precision(precision),
        )
        self.runtime = TensorFlowRuntime(self.bundle, self.request, num_threads)
        self._texts = TextEncoder(self.bundle, self.runtime, max_batch_tokens)
        self._buffer_texts = buffer_texts

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Gives the vectors of texts, in their order.

        Args:
            texts: any strings; an empty one gets what the model makes of its special tokens.

        Returns:
            float32[texts, dim] of the first output asked for.

        Raises:
            ModelRunError: the model failed on a text, whose number is named; ``ModelMemoryError`` and
                ``NonFiniteError`` where that is known.
        """
        return self.encode_outputs(texts)[self.request.outputs[0]]

    def encode_outputs(self, texts: Sequence[str]) -> dict[str, np.ndarray]:
        """The same for every output asked for: float32[texts, dim] by output name."""
        starts = range(0, len(texts), self._buffer_texts)
        parts = [self._encode_buffer(texts[start : start + self._buffer_texts], start) for start in starts]
        if not parts:
            return self._texts.encode_each([]).vectors
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _encode_buffer(self, texts: Sequence[str], start: int) -> dict[str, np.ndarray]:
        encoded = self._texts.encode_each(texts)
        if encoded.failures:
            first = encoded.failures[0]
            raise _ERRORS.get(first.reason, ModelRunError)(
                f"{len(encoded.failures)} texts failed; the first is number {start + first.text_index}: "
                f"{first.message}"
            )
        return encoded.vectors


def _reason(error: ModelRunError) -> str:
    return "out_of_memory" if isinstance(error, ModelMemoryError) else "model_error"
