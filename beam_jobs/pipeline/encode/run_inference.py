"""A model bundle inside Beam's own ``RunInference``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from apache_beam.ml.inference.base import ModelHandler, PredictionResult

from beam_jobs.errors import UsageError
from beam_jobs.pipeline.settings import EncodeSettings
from model_bundle.bundle.manifest import Rows
from model_bundle.errors import ModelRunError
from model_bundle.inference.text_encoder import TextEncoder
from model_bundle.runtime.shared import shared_runtime


class BundleModelHandler(ModelHandler[str, PredictionResult, TextEncoder]):  # type: ignore[misc]  # untyped
    """Runs a bundle on texts: ``texts | RunInference(BundleModelHandler(settings))``.

    Each text gives one ``PredictionResult`` with itself as ``example`` and float32[dim] as ``inference`` (a
    dict of such arrays by column name where several layers were asked for), in the order of the batch. Inside
    a batch texts are sorted by length and run under the token budget: Beam's batches can be large.

    RunInference has no dead letters of its own: a text that fails fails its batch, with an error that names
    it. Put ``.with_exception_handling()`` behind it, or use ``EncodeDocuments``, where one bad text costs one
    text.

    Args:
        settings: what to compute, see ``EncodeSettings.resolve``.
        min_batch_size, max_batch_size: texts that Beam hands over at once.

    Raises:
        UsageError: the settings ask for rows of windows or words, or for classes, or the model takes
            numbers, too.
    """

    def __init__(
        self, settings: EncodeSettings, min_batch_size: int = 64, max_batch_size: int = 1024
    ) -> None:
        if settings.request.rows is not Rows.DOCUMENT or settings.classes is not None:
            raise UsageError(
                "BundleModelHandler gives one vector a text; EncodeDocuments gives words and classes, too."
            )
        if settings.numeric_columns:
            raise UsageError(
                "BundleModelHandler takes texts alone, and this model takes numbers beside them; use "
                "EncodeDocuments."
            )
        super().__init__(min_batch_size=min_batch_size, max_batch_size=max_batch_size)
        self._settings = settings

    def load_model(self) -> TextEncoder:
        """Opens the pinned bundle; the model itself is the process's one."""
        settings = self._settings
        bundle = settings.open_bundle()
        runtime = shared_runtime(bundle, settings.request, settings.num_threads)
        return TextEncoder(bundle, runtime, settings.max_batch_tokens)

    def run_inference(
        self, batch: Sequence[str], model: TextEncoder, inference_args: dict[str, Any] | None = None
    ) -> Iterator[PredictionResult]:
        """Encodes a batch.

        Raises:
            UsageError: arguments were given; there are none.
            ModelRunError: a text failed; its position in the batch and the reason are named.
        """
        if inference_args:
            raise UsageError(f"BundleModelHandler takes no inference_args, got {sorted(inference_args)}.")
        encoded = model.encode_each(batch)
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
        """The namespace of RunInference's own counters."""
        return "beam_jobs"
