"""Column types of the output, and converters from the values of each format, numeric inputs included."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from beam_jobs.base.config import ReadOptions
from beam_jobs.pipeline.read.record_error import RecordError, checked_unicode

# Python accepts underscores between digits; other programs do not write them.
_GROUPED = "_"


INT64_RANGE = range(-(2**63), 2**63)
# Every integer in it is a float64, too.
_FLOAT_RANGE = range(-(2**53), 2**53 + 1)
# While types are merged: integers of which some are no float64. The output type is int64.
LARGE_INT = pa.uint64()


def json_type(value: Any) -> pa.DataType:
    """Returns the column type of a JSON value; nested values become JSON text."""
    if value is None:
        return pa.null()
    if type(value) is bool:
        return pa.bool_()
    if type(value) is int and value in INT64_RANGE:
        return pa.int64() if value in _FLOAT_RANGE else LARGE_INT
    if type(value) is float:
        return pa.float64()
    return pa.string()


def merge_json_types(one: pa.DataType, other: pa.DataType) -> pa.DataType:
    """Returns the common type: null yields to any type, integers become floats, all else becomes text.

    Integers that no float can hold become text next to floats.
    """
    if one == other or pa.types.is_null(other):
        return one
    if pa.types.is_null(one):
        return other
    if {one, other} == {pa.int64(), LARGE_INT}:
        return LARGE_INT
    return pa.float64() if {one, other} == {pa.int64(), pa.float64()} else pa.string()


def json_output_type(kind: pa.DataType) -> pa.DataType:
    """Returns the output type for a merged type."""
    return pa.int64() if kind == LARGE_INT else kind


def json_converter(name: str, kind: pa.DataType) -> Callable[[Any], Any]:
    """Builds the function that turns a column's JSON values into Python values of a type.

    A text column takes every value: strings as they are, all others as their JSON text.

    Raises (the function):
        RecordError: ``column_type``, ``invalid_unicode``.
    """
    change = {pa.int64(): json_int, pa.float64(): json_float, pa.bool_(): json_bool}.get(kind, json_text)

    def convert(value: Any) -> Any:
        if value is None:
            return None
        try:
            return change(value)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise misfit(name, kind, f"a value of type {type(value).__name__}") from error

    return convert


def misfit(name: str, kind: pa.DataType, what: str) -> RecordError:
    """Builds the error of a kept value that does not fit its column."""
    return RecordError(
        "column_type",
        f"Column {name!r} is kept as {kind}, but this record has {what}. State a type that fits all values: "
        f"--column_types {name}=string fits most.",
    )


def json_int(value: Any) -> int:
    """Returns an integer, also for a float that is one.

    Raises:
        TypeError: it is none that int64 can hold.
    """
    if type(value) is float and value.is_integer() and abs(value) <= 2**53:
        return int(value)
    if type(value) is not int or value not in INT64_RANGE:
        raise TypeError
    return value


class HugeNumber(str):
    """A number of JSON, as it is written, that no float can hold: 1e400 is not infinity."""

    __slots__ = ()


def json_number(text: str) -> float | HugeNumber:
    """Reads a number with a fraction or an exponent.

    >>> json_number("2.5e1"), json_number("-1e999")
    (25.0, '-1e999')
    """
    number = float(text)
    return HugeNumber(text) if math.isinf(number) else number


def json_float(value: Any) -> float:
    """Returns a float.

    Raises:
        TypeError, ValueError: it is no number, or an integer whose last digits no float can hold.
    """
    if type(value) is not float and type(value) is not int:
        raise TypeError
    number = float(value)
    if number != value and not math.isnan(number):
        raise ValueError
    return number


def json_bool(value: Any) -> bool:
    """Returns a truth value.

    Raises:
        TypeError: it is none.
    """
    if type(value) is not bool:
        raise TypeError
    return value


def json_text(value: Any) -> str:
    """Returns a string as it is, other values as JSON text.

    Raises:
        RecordError: ``invalid_unicode``.
    """
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return checked_unicode(text, "kept column")


def plain_type(kind: pa.DataType) -> pa.DataType:
    """Returns the output type of a Parquet column: all string types become one, dictionaries their values."""
    types = pa.types
    if types.is_dictionary(kind):
        return plain_type(kind.value_type)
    if isinstance(kind, pa.BaseExtensionType):
        return plain_type(kind.storage_type)
    if types.is_large_string(kind) or types.is_string_view(kind):
        return pa.string()
    if types.is_large_binary(kind) or types.is_binary_view(kind):
        return pa.binary()
    return kind


def is_text(kind: pa.DataType) -> bool:
    """Whether a column of this type can be the text; a column of nulls can."""
    return bool(pa.types.is_string(plain_type(kind)) or pa.types.is_null(kind))


def is_id(kind: pa.DataType) -> bool:
    """Whether a column of this type can be the id: strings or integers."""
    return is_text(kind) or bool(pa.types.is_integer(plain_type(kind)))


class UnfitValue:
    """Marks a value that does not fit its column."""


MISFIT = UnfitValue()


def unchanged(value: Any) -> Any:
    """Returns the value unchanged: CSV has only strings, which are kept as they are."""
    return value


def is_number(kind: pa.DataType) -> bool:
    """Whether a column of this type can hold numbers; text can, because CSV has no other type."""
    kind, types = plain_type(kind), pa.types
    is_numeric = types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind)
    return bool(is_numeric or types.is_boolean(kind) or is_text(kind))


def number_values(array: pa.Array) -> list[Any]:
    """Returns the floats of a Parquet column; text as bytes, other types as ``MISFIT``."""
    kind = plain_type(array.type)
    if not is_number(kind):
        return [MISFIT] * len(array)
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    if is_text(kind):
        # Parquet does not validate UTF-8, and bytes are enough to parse numbers.
        values: list[Any] = pc.cast(pc.cast(array, pa.string(), safe=False), pa.binary()).to_pylist()
        return values
    floats: list[Any] = pc.cast(pc.cast(array, kind), pa.float64(), safe=False).to_pylist()
    return floats


def number_converters(options: ReadOptions) -> list[Callable[[Any], float]]:
    """Returns the converters of all numeric input columns, in order."""
    return [number_converter(name) for name in options.numeric_columns]


def number_converter(name: str) -> Callable[[Any], float]:
    """Builds the function that converts a column's values to floats.

    Accepts numbers, true and false, and text that spells a number.

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
    return RecordError("missing_number", f"Column {name!r} is empty, but the model requires a number.")


def _no_number(name: str) -> RecordError:
    return RecordError(
        "not_a_number", f"Column {name!r} does not hold a finite number, but the model requires one."
    )
