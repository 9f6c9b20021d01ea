"""Runs texts through a runtime in length-sorted batches, in parallel, isolating texts that fail."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from threading import Lock
from typing import Any, cast

import numpy as np

from model_bundle.base.parallel import run_parallel
from model_bundle.bundle.bundle import ModelBundle
from model_bundle.bundle.specs import Rows, WordPieces
from model_bundle.errors import ModelCrashError, ModelMemoryError, ModelRunError, TextTooLongError
from model_bundle.inference.batching import balance_budget, bisect_batch, plan_batches
from model_bundle.inference.numeric_inputs import OUT_OF_RANGE, NumericInputs
from model_bundle.inference.results import DocumentRowCollector, EncodedTexts, TextFailure, WordRowCollector
from model_bundle.inference.window_results import CombinedRowCollector, WindowRowCollector
from model_bundle.runtime.batch_size import calibrated_batch_tokens
from model_bundle.runtime.inputs import fixed_length
from model_bundle.runtime.long_texts import Combine, OnLong
from model_bundle.runtime.request import EncodeRequest
from model_bundle.runtime.tensorflow_runtime import Runtime
from model_bundle.text import PreparedTexts, TextInput, text_input
from model_bundle.text.pairs import PairTexts
from model_bundle.text.prepared import PreparedWords
from model_bundle.text.unknown import unknown_tokens
from model_bundle.text.windows import WindowedTexts, WindowInput

# A crash costs reloading the model: one bad text among 256 then crashes the process two more times; bisecting
# would take eight.
_CRASHED_PARTS = 16
_NO_ROOM = "The first text leaves the second no room within {} tokens."
# Strings, or pairs of strings.
Texts = Sequence[Any]
# Returns the windows whose vectors are known, int64[known], and these, float32[known, dim] by output name.
KnownWindows = Callable[[WindowedTexts], tuple[np.ndarray, Mapping[str, np.ndarray]]]


class TextEncoder:
    """Runs texts through a runtime in length-sorted batches; a bad text only loses its own result.

    Args:
        bundle: a checked bundle.
        runtime: its loaded model; may be shared by several encoders and threads.
        max_batch_tokens: limit on padded cells of a batch; None means the fastest, measured once per machine.
            Halved permanently when memory runs out.
    """

    def __init__(self, bundle: ModelBundle, runtime: Runtime, max_batch_tokens: int | None = None) -> None:
        self._manifest = bundle.manifest
        self._runtime = runtime
        self._dims = {name: bundle.spec(name).dim or 0 for name in runtime.request.outputs}
        self._fixed_length = fixed_length(bundle.manifest.inputs)
        self._numeric = NumericInputs(bundle.manifest.inputs)
        self._input = request_input(bundle, runtime.request)
        self.max_batch_tokens = max_batch_tokens or calibrated_batch_tokens(bundle, runtime)
        self._lock = Lock()

    @property
    def tokens_at_once(self) -> int:
        """Padded cells computed in parallel; with less work, threads idle or batches are small."""
        return self.max_batch_tokens * self._runtime.parallelism

    def encode_each(
        self, texts: Texts, numbers: np.ndarray | None = None, known: KnownWindows | None = None
    ) -> EncodedTexts:
        """Encodes texts; those that fail are listed in the result.

        Args:
            texts: any strings; pairs of them where the bundle takes two texts.
            numbers: float64[texts, columns] where the model takes numbers, see ``NumericInputs``.
            known: where rows are windows, finds those whose vectors need not be computed.

        Raises:
            SettingsError: the table does not have the columns that the model takes.
            TextTooLongError: a text is too long and the request is to fail; nothing was computed.
        """
        arrays, is_unfit = self._numeric.arrays(numbers, len(texts))
        prepared = self._input.prepare(texts)
        work = _BatchRun(prepared, self._rows(prepared), arrays)
        for text in np.flatnonzero(is_unfit):
            work.fail(int(text), "number_range", OUT_OF_RANGE)
        is_unfit = is_unfit | self._too_long(prepared, work)
        left_out = is_unfit[work.texts]
        if known is not None and isinstance(prepared, WindowedTexts):
            rows, vectors = known(prepared)
            left_out[rows] = True
            work.keep_known(vectors, rows)
        batches = self._batches(self._computed(prepared.lengths), left_out)
        run_parallel(self._runtime.parallelism, batches, lambda batch: self._run(batch, work))
        return work.finish()

    def _rows(self, prepared: PreparedTexts | WindowedTexts) -> DocumentRowCollector | WordRowCollector:
        request = self._runtime.request
        if request.rows is Rows.WORD:
            words = prepared if isinstance(prepared, WindowedTexts) else cast(PreparedWords, prepared)
            return WordRowCollector(words, self._dims, first_piece=request.word_pieces is WordPieces.FIRST)
        if not isinstance(prepared, WindowedTexts):
            return DocumentRowCollector(prepared, self._dims)
        if request.rows is Rows.WINDOW:
            with_digests = request.long_texts.windows_at is not None
            return WindowRowCollector(prepared, self._dims, with_digests=with_digests)
        combine = request.long_texts.combine or Combine.MEAN
        return CombinedRowCollector(prepared, self._dims, combine, normalize=request.normalize)

    def _too_long(self, prepared: PreparedTexts | WindowedTexts, work: _BatchRun) -> np.ndarray:
        """Returns bool[texts]: which texts get no result because of their length."""
        request = self._runtime.request
        is_long = np.zeros(len(prepared.num_tokens), dtype=bool)
        on_long, limit = request.long_texts.on_long, request.max_tokens
        pairs = pairs_of(prepared)
        if limit is None:
            return is_long
        if on_long in (OnLong.DEAD_LETTER, OnLong.FAIL):
            is_long = prepared.num_tokens > limit
        elif pairs is not None:
            for text in np.flatnonzero(pairs.is_unfit):
                work.fail(int(text), "too_long", _NO_ROOM.format(limit))
            return pairs.is_unfit
        for text in np.flatnonzero(is_long):
            num_tokens = int(prepared.num_tokens[text])
            if on_long is OnLong.FAIL:
                raise TextTooLongError(int(text), num_tokens, limit)
            work.fail(int(text), "too_long", f"The text has {num_tokens} tokens, the limit is {limit}.")
        return np.asarray(is_long)

    def _batches(self, lengths: np.ndarray, left_out: np.ndarray) -> Iterator[np.ndarray]:
        """Plans batches, and replans the rest when the budget has shrunk."""
        done = left_out.copy()
        equal = self._manifest.batch_dependent
        one_each = equal and self._manifest.tokenizer.kind == "text"
        while not done.all():
            waiting, budget = np.flatnonzero(~done), self.max_batch_tokens
            even = balance_budget(lengths[waiting], budget, self._runtime.parallelism)
            for batch in plan_batches(lengths[waiting], even, equal_lengths=equal, one_each=one_each):
                done[waiting[batch]] = True
                yield waiting[batch]
                if self.max_batch_tokens < budget:
                    break

    def _run(self, batch: np.ndarray, work: _BatchRun) -> None:
        """Runs a batch; on failure bisects it until the bad text is alone."""
        lengths = self._computed(work.prepared.lengths)
        filled = self._fill(batch)
        try:
            outputs = self._runtime.run(work.batch(filled))
            kept = {name: outputs[name][: len(batch)] for name in self._dims}
            work.keep(kept, batch, num_cells=int(lengths[batch].max()) * len(filled))
        except ModelRunError as error:
            if len(batch) == 1:
                work.fail_row(int(batch[0]), _reason(error), str(error))
                return
            if isinstance(error, ModelMemoryError):
                # Half of what failed. A text that fails alone does not count: it may exceed any budget.
                cells = int(lengths[batch].max()) * len(batch)
                with self._lock:
                    self.max_batch_tokens = min(self.max_batch_tokens, max(cells // 2, 1))
            parts: Sequence[np.ndarray] = bisect_batch(batch)
            if isinstance(error, ModelCrashError):
                parts = np.array_split(batch, min(len(batch), _CRASHED_PARTS))
            for part in parts:
                self._run(part, work)

    def _computed(self, lengths: np.ndarray) -> np.ndarray:
        """Returns the tokens computed per text: at least the model's fixed length."""
        return np.asarray(np.maximum(lengths, self._fixed_length))

    def _fill(self, batch: np.ndarray) -> np.ndarray:
        """Repeats a text up to the model's minimum batch size."""
        lack = self._manifest.min_batch - len(batch)
        return np.concatenate([batch, np.repeat(batch[:1], lack)]) if lack > 0 else batch


class _BatchRun:
    """Thread-safe state of one ``encode_each`` call; a row of a batch is a text or a window.

    ``texts``: int64[rows], the text of each row.
    """

    def __init__(
        self,
        prepared: PreparedTexts | WindowedTexts,
        rows: DocumentRowCollector | WordRowCollector,
        numbers: dict[str, np.ndarray],
    ) -> None:
        self.prepared = prepared
        self._windows = prepared if isinstance(prepared, WindowedTexts) else None
        self.texts = self._windows.texts if self._windows else np.arange(len(prepared.lengths))
        self._rows = rows
        self._numbers = numbers
        self._failures: dict[int, tuple[int, TextFailure]] = {}
        self._num_padded_tokens = 0
        self._known = np.zeros(0, dtype=np.int64)
        self._lock = Lock()

    def keep(self, outputs: Mapping[str, np.ndarray], batch: np.ndarray, num_cells: int) -> None:
        """Stores the outputs of a batch."""
        with self._lock:
            finite = self._rows.keep(outputs, batch)
            self._num_padded_tokens += num_cells
        for row in batch[~finite]:
            self.fail_row(int(row), "non_finite", "The model returned NaN or infinity for this text.")

    def keep_known(self, vectors: Mapping[str, np.ndarray], windows: np.ndarray) -> None:
        """Stores vectors that were computed earlier."""
        self.keep(vectors, windows, num_cells=0)
        self._known = windows

    def fail_row(self, row: int, reason: str, message: str) -> None:
        """Records that a text gets no result because of one of its rows."""
        text = int(self.texts[row])
        if self._windows is not None and self._windows.num_windows[text] > 1:
            message = f"Window {self._windows.index[row]}: {message}"
        self._note(row, TextFailure(text, reason, message))

    def fail(self, text: int, reason: str, message: str) -> None:
        """Records that a text gets no result."""
        self._note(-1, TextFailure(text, reason, message))

    def _note(self, row: int, failure: TextFailure) -> None:
        """Keeps one failure per text, that of its first row, regardless of thread timing."""
        with self._lock:
            known = self._failures.get(failure.text_index)
            if known is None or row < known[0]:
                self._failures[failure.text_index] = (row, failure)

    def finish(self) -> EncodedTexts:
        """Returns the results, with failures in the order of the texts."""
        result = self._rows.finish()
        result.num_padded_tokens = self._num_padded_tokens
        result.unknown = unknown_tokens(self.prepared)
        pairs = pairs_of(self.prepared)
        result.num_cut = None if pairs is None else pairs.num_cut
        result.failures = [self._failures[text][1] for text in sorted(self._failures)]
        if self._windows is not None and len(self._known):
            self._leave_out_known(result, self._windows)
        return result

    def _leave_out_known(self, result: EncodedTexts, windows: WindowedTexts) -> None:
        """Subtracts the windows that were known before from the counts of what the model was fed."""

        def sums(of_rows: np.ndarray) -> np.ndarray:
            own = self._known
            return np.bincount(windows.texts[own], of_rows[own], len(windows.num_tokens)).astype(np.int64)

        result.known_windows = self._known
        result.window_tokens = windows.num_fed_tokens - sums(windows.lengths)
        if result.unknown is not None:
            num_fed = result.unknown.num_fed - sums(result.unknown.of_rows)
            result.unknown = replace(result.unknown, num_fed=num_fed)

    def batch(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Returns the model inputs of some rows."""
        numbers = {key: array[self.texts[rows]] for key, array in self._numbers.items()}
        return self.prepared.batch(rows) | numbers


def request_input(bundle: ModelBundle, request: EncodeRequest) -> TextInput | WindowInput:
    """Builds the text preparation of a request; TensorFlow is not needed."""
    long_texts, limit = request.long_texts, request.max_tokens
    if long_texts.are_windows and limit is not None:
        return long_texts.input_of(bundle, limit, request.prompt, request.rows)
    return text_input(bundle.path, bundle.manifest, limit, request.prompt, request.rows)


def pairs_of(prepared: PreparedTexts | WindowedTexts) -> PairTexts | None:
    """Returns prepared pairs, whole ones where they are windows; None if texts are single."""
    whole = prepared.whole if isinstance(prepared, WindowedTexts) else prepared
    return whole if isinstance(whole, PairTexts) else None


def _reason(error: ModelRunError) -> str:
    if isinstance(error, ModelCrashError):
        return "model_crash"
    return "out_of_memory" if isinstance(error, ModelMemoryError) else "model_error"
