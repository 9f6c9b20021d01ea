"""Text to Parquet with Beam's RunInference on this project's SavedModel, batches as Beam makes them.

What a careful user would write who has the SavedModel and not this project: a handler of some forty lines.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.ml.inference.base import ModelHandler, PredictionResult, RunInference

_SCHEMA = pa.schema([("text", pa.string()), ("embedding", pa.list_(pa.float32()))])


@dataclass
class _Model:
    """The loaded model. Its own class, because Beam shares models through weak references."""

    tokenizer: Any
    loaded: Any
    signature: Any
    output: str


class _SavedModelHandler(ModelHandler[str, PredictionResult, _Model]):  # type: ignore[misc]  # Beam is not typed
    """Tokenizes a batch, pads it to its longest text, calls the signature and takes the mean."""

    def __init__(self, bundle: str, signature: str, batching: dict[str, Any]) -> None:
        super().__init__(**batching)
        self._bundle = Path(bundle)
        self._signature = signature

    def load_model(self) -> _Model:
        import tensorflow as tf
        from tokenizers import Tokenizer

        manifest = json.loads((self._bundle / "bundle.json").read_text())
        tokenizer = Tokenizer.from_file(str(self._bundle / "tokenizer" / "tokenizer.json"))
        tokenizer.enable_truncation(manifest["max_tokens"])
        tokenizer.enable_padding(pad_id=manifest["tokenizer"]["pad_id"])
        model = tf.saved_model.load(str(self._bundle / "saved_model"))
        return _Model(tokenizer, model, model.signatures[self._signature], manifest["default_output"])

    def run_inference(
        self, batch: Sequence[str], model: _Model, inference_args: dict[str, Any] | None = None
    ) -> Iterator[PredictionResult]:
        import tensorflow as tf

        if inference_args:
            raise ValueError(f"expected no inference arguments, got {inference_args}")

        encodings = model.tokenizer.encode_batch_fast(list(batch))
        ids = np.array([encoding.ids for encoding in encodings], np.int32)
        mask = np.array([encoding.attention_mask for encoding in encodings], np.int32)
        outputs = model.signature(input_ids=tf.constant(ids), attention_mask=tf.constant(mask))
        states = outputs[model.output].numpy()
        sums = np.einsum("btd,bt->bd", states, mask.astype(np.float32))
        # Normalisation cancels the divisor of the mean.
        vectors = sums / np.linalg.norm(sums, axis=1, keepdims=True)
        for text, vector in zip(batch, vectors, strict=True):
            yield PredictionResult(text, vector)


def _row(result: PredictionResult) -> dict[str, Any]:
    return {"text": result.example, "embedding": result.inference}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--input", required=True)
    parser.add_argument("--output", required=True, help="prefix of the files")
    parser.add_argument("--bundle", required=True, help="folder of a model bundle")
    parser.add_argument("--signature", default="serving_default")
    parser.add_argument(
        "--by_length", action="store_true", help="batch texts of similar length: Beam's batch_length_fn"
    )
    flags = parser.parse_args()
    batching = {"batch_length_fn": len} if flags.by_length else {}
    handler = _SavedModelHandler(flags.bundle, flags.signature, batching)
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        _ = (
            pipeline
            | "Read" >> beam.io.ReadFromText(flags.input)  # PCollection[str]
            | "Embed" >> RunInference(handler)
            | "Rows" >> beam.Map(_row)  # PCollection[dict[str, Any]]
            | "Write"
            >> beam.io.WriteToParquet(flags.output, _SCHEMA, codec="zstd", file_name_suffix=".parquet")
        )


if __name__ == "__main__":
    main()
