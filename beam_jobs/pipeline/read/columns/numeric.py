"""Cells that a model takes as numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from beam_jobs.base.config import ReadOptions
from beam_jobs.pipeline.read.columns.types import MISFIT, is_text, plain_type
from beam_jobs.pipeline.read.documents import RecordError

# As Python reads numbers: no digits grouped by underscores, which nothing but Python writes.
_GROUPED = "_"


def is_number(kind: pa.DataType) -> bool:
    """Whether a column of this type can hold numbers; text can, since CSV holds nothing else."""
    kind, types = plain_type(kind), pa.types
    is_numeric = types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind)
    return bool(is_numeric or types.is_boolean(kind) or is_text(kind))


def number_values(array: pa.Array) -> list[Any]:
    """Returns a Parquet column's floats, at once; text as it is, misfits as ``MISFIT``."""
    kind = plain_type(array.type)
    if not is_number(kind):
        return [MISFIT] * len(array)
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    if is_text(kind):
        # Parquet does not check that text is UTF-8, and no number needs more than its bytes.
        values: list[Any] = pc.cast(pc.cast(array, pa.string(), safe=False), pa.binary()).to_pylist()
        return values
    floats: list[Any] = pc.cast(pc.cast(array, kind), pa.float64(), safe=False).to_pylist()
    return floats


def number_converters(options: ReadOptions) -> list[Callable[[Any], float]]:
    """Makes the converters of all columns that a model takes as numbers, in their order."""
    return [number_converter(name) for name in options.numeric_columns]


def number_converter(name: str) -> Callable[[Any], float]:
    """Builds the function that turns a column's values into numbers.

    Numbers, true and false, and text that spells a number.

    Raises (the function):
        RecordError: ``missing_number``, ``not_a_number``; the message does not quote the cell.
    """

    def convert(value: Any) -> float:
        if value is None or (isinstance(value, str | bytes) and not value.strip()):
            raise _missing(name)
        if value is MISFIT or not isinstance(value, float | int | str | bytes):
            raise _no_number(name)
        try:
            number = _spelled(value) if isinstance(value, str | bytes) else float(value)
        except (ValueError, OverflowError) as error:
            raise _no_number(name) from error
        if math.isfinite(number):
            return number
        raise _missing(name) if math.isnan(number) else _no_number(name)

    return convert


def _spelled(value: str | bytes) -> float:
    text = value if isinstance(value, str) else value.decode("ascii")  # its error is a ValueError
    if _GROUPED in text:
        raise ValueError(_GROUPED)
    return float(text)


def _missing(name: str) -> RecordError:
    return RecordError("missing_number", f"Column {name!r} is empty here, and the model needs a number.")


def _no_number(name: str) -> RecordError:
    return RecordError(
        "not_a_number", f"Column {name!r} holds no finite number here, and the model needs one."
    )
