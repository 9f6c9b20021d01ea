"""Encodes texts in memory, without Beam: the same results as a job, and the reference for its tests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

import numpy as np

from model_bundle.bundle.bundle import ModelBundle
from model_bundle.bundle.specs import Pooling, Precision, Rows, WordPieces
from model_bundle.errors import ModelMemoryError, ModelRunError, NonFiniteError
from model_bundle.inference.numeric_inputs import NumericInputs
from model_bundle.inference.results import EncodedTexts
from model_bundle.inference.stateful_elmo import DEFAULT_STATEFUL_BATCH, StatefulTextEncoder
from model_bundle.inference.text_encoder import TextEncoder, Texts
from model_bundle.runtime.long_texts import DEFAULT_LONG_TEXTS, LongTexts
from model_bundle.runtime.request import EncodeRequest
from model_bundle.runtime.tensorflow_runtime import TensorFlowRuntime

_ERRORS = {"out_of_memory": ModelMemoryError, "non_finite": NonFiniteError}
# Numbers by column name.
Numeric = Mapping[str, Sequence[float] | np.ndarray] | None
# Texts sorted by length together: enough to keep padding near 1 %.
DEFAULT_BUFFER_TEXTS = 4096


class Encoder:
    """A bundle ready to encode.

    >>> encoder = Encoder("minilm")  # doctest: +SKIP
    >>> encoder.encode(["a text", "another"]).shape  # doctest: +SKIP
    (2, 384)

    Args:
        bundle: a folder, a known name, or an opened bundle.
        layers, pooling, normalize, max_tokens, prompt, prompt_text, precision, rows, long_texts, word_pieces:
            see ``EncodeRequest.resolve``. With ``OnLong.DEAD_LETTER`` a text that is too long counts as
            failed; with ``OnLong.FAIL`` nothing of its buffer is computed.
        max_batch_tokens: limit on padded cells of a batch; None means the fastest measured on this machine.
        buffer_texts: texts sorted by length together; bounds memory.
        num_threads: batches run in parallel, one thread each; None means one per core.
        stateful: ELMo only: carry the LSTMs' state from batch to batch, as AllenNLP and bilm did. Vectors
            then depend on the preceding texts; use it to reproduce old vectors.
        batch_texts: texts per stateful batch, as in the run to reproduce.
    """

    _texts: TextEncoder | StatefulTextEncoder

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
        rows: Rows | str = Rows.DOCUMENT,
        long_texts: LongTexts = DEFAULT_LONG_TEXTS,
        word_pieces: WordPieces | str | None = None,
        max_batch_tokens: int | None = None,
        buffer_texts: int = DEFAULT_BUFFER_TEXTS,
        num_threads: int | None = None,
        stateful: bool = False,
        batch_texts: int = DEFAULT_STATEFUL_BATCH,
        allow_ops: tuple[str, ...] = (),
    ) -> None:
        opened = bundle if isinstance(bundle, ModelBundle) else ModelBundle.open(bundle, allow_ops)
        request = EncodeRequest.resolve(
            opened,
            layers=layers,
            pooling=None if pooling is None else Pooling(pooling),
            normalize=normalize,
            max_tokens=max_tokens,
            prompt=prompt,
            prompt_text=prompt_text,
            precision=Precision(precision),
            rows=Rows(rows),
            long_texts=long_texts,
            word_pieces=None if word_pieces is None else WordPieces(word_pieces),
        )
        runtime = TensorFlowRuntime(opened, request, num_threads, keep_signatures=stateful)
        self._load(opened, runtime, max_batch_tokens, buffer_texts)
        if stateful:
            self._texts = StatefulTextEncoder(opened, self.runtime, batch_texts)
            # The end of a buffer must not cut a batch short.
            self._buffer_texts = max(buffer_texts // batch_texts, 1) * batch_texts

    @classmethod
    def of_request(
        cls,
        bundle: ModelBundle,
        request: EncodeRequest,
        *,
        max_batch_tokens: int | None = None,
        buffer_texts: int = DEFAULT_BUFFER_TEXTS,
        num_threads: int | None = None,
    ) -> Self:
        """Builds an encoder from resolved settings."""
        encoder = cls.__new__(cls)
        runtime = TensorFlowRuntime(bundle, request, num_threads)
        encoder._load(bundle, runtime, max_batch_tokens, buffer_texts)
        return encoder

    def _load(
        self, bundle: ModelBundle, runtime: TensorFlowRuntime, max_batch_tokens: int | None, buffer_texts: int
    ) -> None:
        self.bundle = bundle
        self.request = runtime.request
        self.runtime = runtime
        self._texts = TextEncoder(bundle, runtime, max_batch_tokens)
        self._numeric = NumericInputs(bundle.manifest.inputs)
        self._buffer_texts = buffer_texts

    @property
    def max_batch_tokens(self) -> int:
        """The current limit on padded cells of a batch."""
        return self._texts.max_batch_tokens

    def encode(self, texts: Sequence[str], numeric: Numeric = None) -> np.ndarray:
        """Returns the vectors of texts, in order.

        Args:
            texts: any strings; an empty one gets the vector of its special tokens.
            numeric: where the model takes numbers, those of each column by name, one per text.

        Returns:
            float32[texts, dim] of the first output asked for; float32[words, dim] or float32[windows, dim]
            where these are rows.

        Raises:
            ModelRunError: the model failed on a text, which the message numbers; ``ModelMemoryError`` or
                ``NonFiniteError`` where that is the cause.
            SettingsError: the columns are not those that the model takes.
            TextTooLongError: a text is too long, and ``long_texts`` is set to fail.
        """
        return self.encode_outputs(texts, numeric)[self.request.outputs[0]]

    def encode_outputs(self, texts: Sequence[str], numeric: Numeric = None) -> dict[str, np.ndarray]:
        """Returns the same for every requested output, by output name."""
        parts = [part.vectors for part in self.encode_buffers(texts, numeric)]
        return {name: np.concatenate([part[name] for part in parts]) for name in self.request.outputs}

    def encode_buffers(self, texts: Texts, numeric: Numeric = None) -> Iterator[EncodedTexts]:
        """Encodes a buffer of texts, or pairs, at a time, so that results need not all fit in memory.

        Yields:
            Results of at most ``buffer_texts`` texts; one empty result for no texts.

        Raises:
            ModelRunError, SettingsError: see ``encode``.
        """
        numbers = self._numeric.table(numeric, len(texts))
        for start in range(0, max(len(texts), 1), self._buffer_texts):
            part = slice(start, start + self._buffer_texts)
            encoded = self._texts.encode_each(texts[part], numbers[part])
            if encoded.failures:
                first = encoded.failures[0]
                raise _ERRORS.get(first.reason, ModelRunError)(
                    f"{len(encoded.failures)} texts failed; the first is number {start + first.text_index}: "
                    f"{first.message}"
                )
            yield encoded
