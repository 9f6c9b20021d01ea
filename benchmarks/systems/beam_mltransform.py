"""Text to Parquet with Beam's MLTransform and SentenceTransformerEmbeddings, on the in-process runner."""

from __future__ import annotations

import argparse
import tempfile
from typing import Any

import apache_beam as beam
import pyarrow as pa
from apache_beam.ml.transforms.base import MLTransform
from apache_beam.ml.transforms.embeddings.huggingface import SentenceTransformerEmbeddings

_SCHEMA = pa.schema([("text", pa.string()), ("embedding", pa.list_(pa.float32()))])


def _columns(line: str) -> dict[str, str]:
    """Duplicates the text, because the transform replaces the column it reads by the vector."""
    return {"text": line, "embedding": line}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--input", required=True)
    parser.add_argument("--output", required=True, help="prefix of the files")
    parser.add_argument("--model", required=True, help="a sentence-transformers folder")
    parser.add_argument("--batch_size", type=int, default=32, help="batch size inside one call of the model")
    flags = parser.parse_args()
    options: dict[str, Any] = {"inference_args": {"batch_size": flags.batch_size, "show_progress_bar": False}}
    embeddings = SentenceTransformerEmbeddings(model_name=flags.model, columns=["embedding"], **options)
    with tempfile.TemporaryDirectory() as artifacts, beam.Pipeline(runner="FnApiRunner") as pipeline:
        location = f"{artifacts}/transform"
        _ = (
            pipeline
            | "Read" >> beam.io.ReadFromText(flags.input)  # PCollection[str]
            | "Columns" >> beam.Map(_columns)  # PCollection[dict[str, str]]
            | "Embed" >> MLTransform(write_artifact_location=location).with_transform(embeddings)
            | "Write"
            >> beam.io.WriteToParquet(flags.output, _SCHEMA, codec="zstd", file_name_suffix=".parquet")
        )


if __name__ == "__main__":
    main()
