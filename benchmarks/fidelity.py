"""Compares vectors with those of the reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.errors import BenchmarkError


@dataclass(frozen=True)
class Fidelity:
    """``min_cosine``: of the worst text; ``mean_cosine`` of all. ``max_difference``: of the worst element."""

    min_cosine: float
    mean_cosine: float
    max_difference: float


def compare(vectors: np.ndarray, reference: np.ndarray) -> Fidelity:
    """Compares vectors row by row.

    Args:
        vectors: float32[texts, dim].
        reference: the same shape.

    Raises:
        BenchmarkError: the shapes differ, or a value is NaN or infinite.
    """
    if vectors.shape != reference.shape:
        raise BenchmarkError(f"The vectors are {vectors.shape}, the reference's {reference.shape}.")
    if not np.isfinite(vectors).all():
        raise BenchmarkError("The vectors contain NaN or infinity.")
    wide, exact = vectors.astype(np.float64), reference.astype(np.float64)
    norms = np.linalg.norm(wide, axis=1) * np.linalg.norm(exact, axis=1)
    cosines = (wide * exact).sum(axis=1) / norms
    return Fidelity(float(cosines.min()), float(cosines.mean()), float(np.abs(wide - exact).max()))


def read_vectors(folder: Path, texts: Sequence[str]) -> np.ndarray:
    """Reads the rows of a job in the order of its input.

    Args:
        folder: searched for ``.parquet`` files with columns ``text`` and ``embedding``.
        texts: the input. Rows of equal texts are interchangeable.

    Returns:
        float32[texts, dim].

    Raises:
        BenchmarkError: there is not exactly one row per text.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    files = sorted(path for path in folder.rglob("*.parquet") if "dead_letters" not in path.parts)
    table = pa.concat_tables([pq.read_table(path, columns=["text", "embedding"]) for path in files])
    flat = table["embedding"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    vectors = flat.astype(np.float32, copy=False).reshape(len(table), -1)
    rows: dict[str, list[int]] = {}
    for index, text in enumerate(table["text"].to_pylist()):
        rows.setdefault(text, []).append(index)
    try:
        order = [rows[text].pop() for text in texts]
    except (KeyError, IndexError) as error:
        raise BenchmarkError(f"{folder} lacks a row for one of {len(texts)} documents.") from error
    if len(order) != len(table):
        raise BenchmarkError(f"{folder} has {len(table)} rows for {len(texts)} documents.")
    in_order: np.ndarray = vectors[order]
    return in_order
