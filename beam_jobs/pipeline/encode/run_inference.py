"""``BundleModelHandler``: a model bundle for Beam's own ``RunInference``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from apache_beam.ml.inference.base import ModelHandler, PredictionResult

from beam_jobs.errors import UsageError
from beam_jobs.pipeline.rows.make import check_results
from beam_jobs.pipeline.settings import EncodeSettings
from model_bundle.bundle.specs import Rows
from model_bundle.errors import ModelRunError
from model_bundle.inference.text_encoder import TextEncoder
from model_bundle.runtime.shared import shared_runtime


class BundleModelHandler(ModelHandler[str, PredictionResult, TextEncoder]):  # type: ignore[misc]  # untyped
    """Runs a bundle on texts: ``texts | RunInference(BundleModelHandler(settings))``.

    Each text becomes one ``PredictionResult`` with the text as ``example`` and float32[dim] as ``inference``
    (with several layers, a dict of such arrays by column name), in the order of the batch. Within a batch,
    texts are sorted by length and run under the token budget, so Beam's batches can be large.

    RunInference has no dead letters: a failing text fails its batch, with an error that identifies it. Add
    ``.with_exception_handling()``, or use ``EncodeDocuments``, where a bad text affects no other text.

    Args:
        settings: what to compute, see ``EncodeSettings.resolve``.
        min_batch_size, max_batch_size: texts per batch.

    Raises:
        UsageError: the settings ask for rows of windows or words, or for classes, or the model has
            numeric inputs.
    """

    def __init__(
        self, settings: EncodeSettings, min_batch_size: int = 64, max_batch_size: int = 1024
    ) -> None:
        if settings.request.rows is not Rows.DOCUMENT or settings.classes is not None:
            raise UsageError(
                "BundleModelHandler returns one vector per text; use EncodeDocuments for words and classes."
            )
        if settings.numeric_columns:
            raise UsageError(
                "BundleModelHandler takes only texts, but this model also has numeric inputs; use "
                "EncodeDocuments."
            )
        super().__init__(min_batch_size=min_batch_size, max_batch_size=max_batch_size)
        self._settings = settings

    def load_model(self) -> TextEncoder:
        """Opens the pinned bundle; the model is shared within the process."""
        settings = self._settings
        bundle = settings.open_bundle()
        runtime = shared_runtime(bundle, settings.request, settings.num_threads)
        return TextEncoder(bundle, runtime, settings.max_batch_tokens)

    def run_inference(
        self, batch: Sequence[str], model: TextEncoder, inference_args: dict[str, Any] | None = None
    ) -> Iterator[PredictionResult]:
        """Encodes a batch.

        Raises:
            UsageError: ``inference_args`` is not empty.
            ModelRunError: a text failed; with its position in the batch and the reason.
        """
        if inference_args:
            raise UsageError(f"BundleModelHandler takes no inference_args, got {sorted(inference_args)}.")
        encoded = model.encode_each(batch)
        check_results(encoded, self._settings)
        for failure in encoded.failures:
            raise ModelRunError(
                f"Text {failure.text_index} of a batch of {len(batch)} failed ({failure.reason}): "
                f"{failure.message}"
            )
        settings = self._settings
        vectors = [encoded.vectors[name] for name in settings.request.outputs]
        for index, text in enumerate(batch):
            rows = {c: v[index] for c, v in zip(settings.vector_columns, vectors, strict=True)}
            inference = rows["embedding"] if len(rows) == 1 else rows
            yield PredictionResult(example=text, inference=inference, model_id=settings.bundle_digest)

    def get_metrics_namespace(self) -> str:
        """Returns the namespace of RunInference's counters."""
        return "beam_jobs"
