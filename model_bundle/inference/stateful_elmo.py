"""ELMo as AllenNLP and bilm ran it: the LSTMs' state is carried from batch to batch.

A vector then depends on the preceding texts. Use it to reproduce old vectors, in their original order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np

from model_bundle.bundle.bundle import ModelBundle
from model_bundle.bundle.manifest import STATEFUL_SIGNATURE
from model_bundle.bundle.specs import Pooling, Precision, Rows
from model_bundle.errors import SettingsError
from model_bundle.inference.results import DocumentRowCollector, EncodedTexts, TextFailure, WordRowCollector
from model_bundle.runtime.long_texts import OnLong
from model_bundle.runtime.pooling import normalize, pool
from model_bundle.runtime.request import EncodeRequest
from model_bundle.runtime.tensorflow_runtime import TensorFlowRuntime
from model_bundle.text import text_input
from model_bundle.text.prepared import PreparedWords

# The default of `allennlp elmo`.
DEFAULT_STATEFUL_BATCH = 64


class StatefulTextEncoder:
    """Runs texts in order, ``batch_texts`` at a time; row i starts with the state that row i ended with.

    A smaller batch leaves the states of the rows it lacks unchanged, as AllenNLP does.

    Args:
        bundle: an ELMo built from bilm weights.
        runtime: its loaded model.
        batch_texts: as in the run to reproduce.

    Raises:
        SettingsError: the bundle, the precision or the batch size does not allow it.
    """

    max_batch_tokens = 0  # batches are counted in texts

    def __init__(self, bundle: ModelBundle, runtime: TensorFlowRuntime, batch_texts: int) -> None:
        request = runtime.request
        _check(bundle, request, runtime, batch_texts)
        self.batch_texts = batch_texts
        self._request = request
        self._call = runtime.signature(STATEFUL_SIGNATURE)
        self._dims = {name: bundle.spec(name).dim or 0 for name in request.outputs}
        self._input = text_input(bundle.path, bundle.manifest, request.max_tokens, request.prompt)
        specs = self._call.structured_input_signature[1]
        self._states = {
            name: np.zeros((*specs[name].shape[:2], batch_texts, specs[name].shape[3]), np.float32)
            for name in ("cells", "states")
        }

    def encode_each(self, texts: Sequence[Any], _numbers: np.ndarray | None = None, /) -> EncodedTexts:
        """See ``TextEncoder.encode_each``; nothing is sorted or retried, and ELMo takes no numbers."""
        prepared = self._input.prepare(texts)
        by_word = self._request.rows is Rows.WORD
        rows: DocumentRowCollector | WordRowCollector = (
            WordRowCollector(cast(PreparedWords, prepared), self._dims)
            if by_word
            else DocumentRowCollector(prepared, self._dims)
        )
        failures, num_cells = [], 0
        for start in range(0, len(texts), self.batch_texts):
            batch = np.arange(start, min(start + self.batch_texts, len(texts)))
            outputs = self._run(prepared.batch(batch))
            if not by_word:
                outputs = self._pooled(outputs, prepared.lengths[batch])
            finite = rows.keep(outputs, batch)
            message = "The model returned NaN or infinity for this text."
            failures += [TextFailure(int(text), "non_finite", message) for text in batch[~finite]]
            num_cells += len(batch) * int(prepared.lengths[batch].max())
        result = rows.finish()
        result.num_padded_tokens, result.failures = num_cells, failures
        return result

    def _run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Runs a batch and keeps its final states."""
        number = len(inputs["lengths"])
        begin = {name: array[:, :, :number] for name, array in self._states.items()}
        found: Mapping[str, Any] = self._call(
            **_tensors(tokens=inputs["words"], sequence_len=inputs["lengths"], **begin)
        )
        for name, array in self._states.items():
            array[:, :, :number] = found[name].numpy()
        return {name: found[name].numpy() for name in self._dims}

    def _pooled(self, outputs: Mapping[str, np.ndarray], lengths: np.ndarray) -> dict[str, np.ndarray]:
        """Pools to one vector per text; zeros for a text without words, as the graph does."""
        some = lengths > 0
        mask = np.arange(max(int(lengths.max(initial=0)), 1)) < lengths[:, np.newaxis]
        vectors = {}
        for name, states in outputs.items():
            if states.ndim == 2:
                vectors[name] = states
                continue
            vectors[name] = np.zeros((len(states), states.shape[2]), np.float32)
            if some.any():
                pooling = self._request.pooling or Pooling.MEAN
                vectors[name][some] = pool(states[some], mask[some].astype(np.int32), pooling)
        return {n: normalize(v) for n, v in vectors.items()} if self._request.normalize else vectors


def _tensors(**arrays: np.ndarray) -> dict[str, Any]:
    from model_bundle.runtime.tensorflow_setup import import_tensorflow

    tf = import_tensorflow()
    return {name: tf.constant(array) for name, array in arrays.items()}


def _check(bundle: ModelBundle, request: EncodeRequest, runtime: TensorFlowRuntime, batch_texts: int) -> None:
    if STATEFUL_SIGNATURE not in runtime.signature_names:
        raise SettingsError(
            f"stateful=True needs a bundle with the signature {STATEFUL_SIGNATURE}, which "
            f"python -m model_bundle build elmo makes; {bundle.manifest.name} has "
            f"{', '.join(sorted(runtime.signature_names))}. Leave stateful out."
        )
    if request.precision is not Precision.FLOAT32:
        raise SettingsError("stateful=True reproduces float32 vectors; leave precision='bfloat16' out.")
    if request.long_texts.on_long is not OnLong.TRUNCATE:
        raise SettingsError("stateful=True reproduces vectors of whole texts; leave long_texts out.")
    if batch_texts < 1:
        raise SettingsError(f"batch_texts must be at least 1, not {batch_texts}.")
