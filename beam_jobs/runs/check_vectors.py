"""What the numbers of a file must be: finite, of the length that was promised, there at all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from beam_jobs.store.dataset import matrix, read_batches, run_schema, vector_columns
from beam_jobs.store.finished_run import FinishedRun
from beam_jobs.store.manifest import RunFile

# What storing a vector of length 1 in 16 bits may change, with room; float32 stays far below.
_NORM_TOLERANCE = 5e-3
_SHOWN_IDS = 3


def check_values(run: FinishedRun, file: RunFile) -> Iterator[str]:
    """Reads the rows of one file; gives what is wrong with them.

    Raises:
        JobError: the file cannot be read.
    """
    alone = replace(run, manifest=run.manifest.model_copy(update={"files": (file,)}))
    schema = run_schema(alone)
    vectors = vector_columns(schema)
    scores = [f.name for f in schema if f.name in ("scores", "logits", "score") and _holds_floats(f.type)]
    required = [f.name for f in schema if not f.nullable]
    is_unit = (schema.metadata or {}).get(b"beam_jobs.normalized") == b"true"
    wrong: dict[str, _Wrong] = {}
    columns = list(dict.fromkeys(["doc_id", *required, *vectors, *scores]))
    for part in read_batches(alone, columns):
        rows = part.rows
        for name in required:
            _note(wrong, f"{name} is null", rows, rows.column(name).is_null().to_numpy(zero_copy_only=False))
        for name, dim in vectors.items():
            numbers = matrix(rows.column(name), dim)
            finite = np.isfinite(numbers).all(axis=1)
            _note(wrong, f"{name} holds NaN or infinity", rows, ~finite)
            norms = np.linalg.norm(numbers, axis=1)
            _note(wrong, f"{name} holds only zeros", rows, norms == 0)
            if is_unit:
                off = finite & (norms != 0) & (np.abs(norms - 1) > _NORM_TOLERANCE)
                _note(wrong, f"{name} should have length 1 and has not", rows, off)
        for name in scores:
            _note(wrong, f"{name} holds NaN or infinity", rows, _not_finite(rows.column(name)))
    for what, found in wrong.items():
        yield f"{file.path}: {what} in {found.num_rows:,} rows, for example of {', '.join(found.examples)}"


@dataclass
class _Wrong:
    """Rows with one fault: how many, and some of their ids."""

    num_rows: int = 0
    examples: tuple[str, ...] = ()


def _note(wrong: dict[str, _Wrong], what: str, rows: pa.RecordBatch, mask: np.ndarray) -> None:
    if mask.any():
        noted = wrong.setdefault(what, _Wrong())
        noted.num_rows += int(mask.sum())
        ids = rows.column("doc_id").filter(pa.array(mask)).slice(0, _SHOWN_IDS).to_pylist()
        noted.examples = (*noted.examples, *map(str, ids))[:_SHOWN_IDS]


def _holds_floats(kind: pa.DataType) -> bool:
    value = kind.value_type if pa.types.is_list(kind) else kind
    return bool(pa.types.is_floating(value))


def _not_finite(column: pa.Array) -> np.ndarray:
    """Returns bool[rows]: a number, or one of a list of numbers, is not finite."""
    if not pa.types.is_list(column.type):
        return np.asarray(~np.isfinite(column.to_numpy(zero_copy_only=False).astype(np.float64)))
    bad = ~np.isfinite(column.flatten().to_numpy(zero_copy_only=False).astype(np.float64))
    rows = np.repeat(np.arange(len(column)), column.value_lengths().to_numpy(zero_copy_only=False))
    return np.asarray(np.bincount(rows[bad], minlength=len(column)) > 0)
