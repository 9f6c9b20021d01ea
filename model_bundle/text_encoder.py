"""Texts to results through a runtime: sorted into batches, in several lanes; one bad text costs one text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from threading import Lock
from typing import cast

import numpy as np

from model_bundle.batching import even_budget, halves, plan_batches
from model_bundle.bundle import ModelBundle
from model_bundle.calibration import calibrated_batch_tokens
from model_bundle.errors import ModelMemoryError, ModelRunError
from model_bundle.feeding import fixed_length
from model_bundle.lanes import run_in_lanes
from model_bundle.manifest import Rows
from model_bundle.numbers import OUT_OF_RANGE, NumericInputs
from model_bundle.results import DocumentRows, EncodedTexts, EveryWord, TextFailure
from model_bundle.runtime import Runtime
from model_bundle.text import PreparedTexts, text_input
from model_bundle.text.prepared import PreparedWords


class TextEncoder:
    """Runs texts through a runtime in length-sorted batches; one bad text costs one text.

    Args:
        bundle: a checked bundle.
        runtime: its loaded model; may be shared by several encoders and threads.
        max_batch_tokens: limit on padded cells of a batch; None means what is fastest here, as measured once.
            Halved, for good, when memory runs out.
    """

    def __init__(self, bundle: ModelBundle, runtime: Runtime, max_batch_tokens: int | None = None) -> None:
        self._manifest = bundle.manifest
        self._runtime = runtime
        self._dims = {name: bundle.spec(name).dim or 0 for name in runtime.request.outputs}
        self._is_classes = any(bundle.spec(name).kind == "class" for name in runtime.request.outputs)
        request = runtime.request
        self._fixed_length = fixed_length(bundle.manifest.inputs)
        self._numeric = NumericInputs(bundle.manifest.inputs)
        self._input = text_input(
            bundle.path, bundle.manifest, request.max_tokens, request.prompt, request.rows
        )
        self.max_batch_tokens = max_batch_tokens or calibrated_batch_tokens(bundle, runtime)
        self._lock = Lock()

    def encode_each(self, texts: Sequence[str], numbers: np.ndarray | None = None) -> EncodedTexts:
        """Computes what can be computed and lists what cannot.

        Args:
            texts: any strings.
            numbers: float64[texts, columns] where the model takes numbers, see ``NumericInputs``.

        Raises:
            SettingsError: there are not as many numbers as the model takes.
        """
        arrays, is_unfit = self._numeric.arrays(numbers, len(texts))
        prepared = self._input.prepare(texts)
        work = _Work(prepared, self._rows(prepared), arrays)
        for text in np.flatnonzero(is_unfit):
            work.fail(int(text), "number_range", OUT_OF_RANGE)
        batches = self._batches(self._computed(prepared.lengths), is_unfit)
        run_in_lanes(self._runtime.num_lanes, batches, lambda batch: self._run(batch, work))
        return work.finish()

    def _rows(self, prepared: PreparedTexts) -> DocumentRows | EveryWord:
        if self._runtime.request.rows is Rows.WORD:
            return EveryWord(cast(PreparedWords, prepared), self._dims, first_piece=self._is_classes)
        return DocumentRows(prepared, self._dims)

    def _batches(self, lengths: np.ndarray, left_out: np.ndarray) -> Iterator[np.ndarray]:
        """Plans batches, and plans the rest again once the budget has shrunk."""
        done = left_out.copy()
        equal = self._manifest.batch_dependent
        one_each = equal and self._manifest.tokenizer.kind == "text"
        while not done.all():
            waiting, budget = np.flatnonzero(~done), self.max_batch_tokens
            even = even_budget(lengths[waiting], budget, self._runtime.num_lanes)
            for batch in plan_batches(lengths[waiting], even, equal_lengths=equal, one_each=one_each):
                done[waiting[batch]] = True
                yield waiting[batch]
                if self.max_batch_tokens < budget:
                    break

    def _run(self, batch: np.ndarray, work: _Work) -> None:
        """Runs a batch; on failure halves it until the culprit is alone."""
        lengths = self._computed(work.prepared.lengths)
        filled = self._fill(batch)
        try:
            outputs = self._runtime.run(work.batch(filled))
            kept = {name: outputs[name][: len(batch)] for name in self._dims}
            work.keep(kept, batch, num_cells=int(lengths[batch].max()) * len(filled))
        except ModelRunError as error:
            if len(batch) == 1:
                work.fail(int(batch[0]), _reason(error), str(error))
                return
            if isinstance(error, ModelMemoryError):
                # Half of what failed. A text that fails alone does not count: it may be over any budget.
                cells = int(lengths[batch].max()) * len(batch)
                with self._lock:
                    self.max_batch_tokens = min(self.max_batch_tokens, max(cells // 2, 1))
            for half in halves(batch):
                self._run(half, work)

    def _computed(self, lengths: np.ndarray) -> np.ndarray:
        """Gives the tokens that are computed for each text: all of a fixed length, however short it is."""
        return np.asarray(np.maximum(lengths, self._fixed_length))

    def _fill(self, batch: np.ndarray) -> np.ndarray:
        """Repeats a text for models that fail on small batches."""
        lack = self._manifest.min_batch - len(batch)
        return np.concatenate([batch, np.repeat(batch[:1], lack)]) if lack > 0 else batch


class _Work:
    """Some texts on their way through the model, in several lanes."""

    def __init__(
        self, prepared: PreparedTexts, rows: DocumentRows | EveryWord, numbers: dict[str, np.ndarray]
    ) -> None:
        self.prepared = prepared
        self._rows = rows
        self._numbers = numbers
        self._failures: list[TextFailure] = []
        self._num_padded_tokens = 0
        self._lock = Lock()

    def keep(self, outputs: Mapping[str, np.ndarray], batch: np.ndarray, num_cells: int) -> None:
        """Takes what came of a batch."""
        with self._lock:
            finite = self._rows.keep(outputs, batch)
            self._num_padded_tokens += num_cells
        for text in batch[~finite]:
            self.fail(int(text), "non_finite", "The model gave NaN or infinity for this text.")

    def fail(self, text: int, reason: str, message: str) -> None:
        """Notes that a text gets no result."""
        with self._lock:
            self._failures.append(TextFailure(text, reason, message))

    def finish(self) -> EncodedTexts:
        """Gives all of it; failures in the order of the texts."""
        result = self._rows.finish()
        result.num_padded_tokens = self._num_padded_tokens
        result.failures = sorted(self._failures, key=lambda failure: failure.text_index)
        return result

    def batch(self, texts: np.ndarray) -> dict[str, np.ndarray]:
        """Gives what the model is fed for some of the texts."""
        return self.prepared.batch(texts) | {key: array[texts] for key, array in self._numbers.items()}


def _reason(error: ModelRunError) -> str:
    return "out_of_memory" if isinstance(error, ModelMemoryError) else "model_error"
