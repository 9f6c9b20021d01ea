"""The texts used by all benchmarks."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.errors import BenchmarkError
from benchmarks.worker import ROOT


@dataclass(frozen=True)
class Corpus:
    """Documents, one line each; ``name`` is their origin."""

    name: str
    texts: list[str]

    def describe(self) -> dict[str, Any]:
        """Returns name, number and digest of the texts."""
        joined = "\n".join(self.texts).encode()
        return {
            "name": self.name,
            "num_documents": len(self.texts),
            "num_characters": sum(map(len, self.texts)),
            "sha256": hashlib.sha256(joined).hexdigest(),
        }

    def repeated(self, num_documents: int) -> Corpus:
        """Returns the first ``num_documents`` documents, repeating the texts if there are fewer."""
        if num_documents < 1:
            raise BenchmarkError(f"At least one document is needed, not {num_documents}.")
        times = -(-num_documents // len(self.texts))
        return Corpus(self.name, (self.texts * times)[:num_documents])

    def write_json(self, path: Path) -> Path:
        """Writes the texts as a JSON list."""
        path.write_text(json.dumps(self.texts, ensure_ascii=False), encoding="utf-8")
        return path

    def write_lines(self, path: Path) -> Path:
        """Writes one document per line."""
        path.write_text("".join(f"{text}\n" for text in self.texts), encoding="utf-8")
        return path


def read_corpus(path: Path | None) -> Corpus:
    """Reads ``.csv`` (all columns but the first, joined) or ``.txt`` (one document per line), also ``.gz``.

    Args:
        path: None means the AG News test set if it lies next to the checkout, as in the tests, or else the
            sample text of the package.

    Raises:
        BenchmarkError: the file does not exist, has another format, or is empty.
    """
    if path is None:
        shared = Path(os.environ.get("SHARED_DIR", ROOT.parent / "shared"))
        path = shared / "data" / "ag_news_test.csv.gz"
        if not path.is_file():
            return _sample()
    if not path.is_file():
        raise BenchmarkError(f"{path} does not exist. Give --corpus a .csv or .txt file, also .gz.")
    texts = _one_line_each(_read(path))
    if not texts:
        raise BenchmarkError(f"{path} contains no text.")
    return Corpus(path.name, texts)


def _sample() -> Corpus:
    files = sorted((ROOT / "model_bundle" / "text" / "sample_data").glob("*.jsonl"))
    lines = [line for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    return Corpus("sample text", _one_line_each([json.loads(line)["text"] for line in lines]))


def _read(path: Path) -> list[str]:
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    text = data.decode("utf-8")
    kind = path.name.removesuffix(".gz").rpartition(".")[2]
    if kind == "csv":
        return [" ".join(row[1:]) for row in csv.reader(io.StringIO(text, newline=""))]
    if kind == "txt":
        return text.split("\n")
    raise BenchmarkError(f"{path} is neither .csv nor .txt (.gz allowed).")


def _one_line_each(texts: list[str]) -> list[str]:
    """Replaces line breaks, so that systems that read lines get the same documents."""
    lines = (" ".join(text.split()) for text in texts)
    return [line for line in lines if line]
