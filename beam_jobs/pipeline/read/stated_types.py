"""Values of the types that ``--column_types`` states, the same for every format."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from beam_jobs.pipeline.read.arrow_columns import CAST_ERRORS, arrow_values, stored_values
from beam_jobs.pipeline.read.column_types import (
    INT64_RANGE,
    MISFIT,
    json_bool,
    json_float,
    json_int,
    json_number,
    json_text,
    misfit,
    plain_type,
)

STATED: dict[str, pa.DataType] = {
    "string": pa.string(),
    "int64": pa.int64(),
    "float64": pa.float64(),
    "bool": pa.bool_(),
}
# Not \d, which other scripts' digits match.
_INTEGER = re.compile(r"[+-]?[0-9]+")
_BOOLS = {"true": True, "false": False}


def stated_converter(name: str, kind: pa.DataType) -> Callable[[Any], Any]:
    """Builds the function that turns values of any format into Python values of a stated type.

    Text becomes the number or truth value that it spells, and no value if it is empty; values of other types
    become text as JSON writes them. Nothing is rounded.

    Raises (the function):
        RecordError: ``column_type``, ``invalid_unicode``.
    """
    change = {pa.int64(): _int, pa.float64(): _float, pa.bool_(): _bool}.get(kind, json_text)
    is_text = change is json_text

    def convert(value: Any) -> Any:
        if value is None or (not is_text and isinstance(value, str) and not value.strip()):
            return None
        try:
            return change(value)
        except (TypeError, ValueError, LookupError, OverflowError, RecursionError) as error:
            raise misfit(name, kind, "a value that does not fit") from error

    return convert


def stated_values(array: pa.Array, kind: pa.DataType) -> list[Any]:
    """Returns an array's values for ``stated_converter``; ``MISFIT`` for those that cannot be converted."""
    source, types = plain_type(array.type), pa.types
    is_simple = types.is_integer(source) or types.is_floating(source) or types.is_boolean(source)
    if is_simple or types.is_string(source) or types.is_null(source):
        return arrow_values(array, source)
    if types.is_nested(source):
        return [_nested_text(value) for value in stored_values(array)]
    return [_cast_one(array.slice(index, 1), kind) for index in range(len(array))]


def _nested_text(value: Any) -> Any:
    try:
        return None if value is None else json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):  # bytes, times
        return MISFIT


def _cast_one(array: pa.Array, kind: pa.DataType) -> Any:
    try:
        return pc.cast(array, kind)[0].as_py()
    except CAST_ERRORS:
        return MISFIT


def _int(value: Any) -> int:
    if isinstance(value, str):
        text = value.strip()
        if not _INTEGER.fullmatch(text) or len(text) > 20 or int(text) not in INT64_RANGE:
            raise ValueError
        return int(text)
    return json_int(value)


def _float(value: Any) -> float:
    if isinstance(value, str):
        number = json_number(value)
        if "_" in value or (isinstance(number, str) and "inf" not in value.lower()):
            raise ValueError
        return float(number)
    return json_float(value)


def _bool(value: Any) -> bool:
    return _BOOLS[value.strip().lower()] if isinstance(value, str) else json_bool(value)
