"""Values of Arrow columns as Python values, cast only where nothing is lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from beam_jobs.pipeline.read.column_types import MISFIT, misfit, plain_type

# What a cast may raise: ``ArrowInvalid`` and errors of Unicode are ValueErrors.
CAST_ERRORS = (ValueError, TypeError, OverflowError, pa.ArrowNotImplementedError)


def storage_type(kind: pa.DataType) -> pa.DataType:
    """Returns the type with lossless Python values: times become the integers they are stored as.

    Python's times have no nanoseconds. ``pa.array`` accepts the integers for every unit and time zone.
    """
    types = pa.types
    if types.is_date32(kind) or types.is_time32(kind):
        return pa.int32()
    if types.is_temporal(kind) and not types.is_interval(kind):
        return pa.int64()
    if types.is_list(kind):
        return pa.list_(kind.value_field.with_type(storage_type(kind.value_type)))
    if types.is_large_list(kind):
        return pa.large_list(kind.value_field.with_type(storage_type(kind.value_type)))
    if types.is_fixed_size_list(kind):
        return pa.list_(kind.value_field.with_type(storage_type(kind.value_type)), kind.list_size)
    if types.is_map(kind):
        return pa.map_(storage_type(kind.key_type), storage_type(kind.item_type))
    if types.is_struct(kind):
        return pa.struct([field.with_type(storage_type(field.type)) for field in kind])
    return kind


def repeated_field(kind: pa.DataType) -> str | None:
    """Returns the name that a struct inside a type has twice, which no Python value can hold."""
    if pa.types.is_struct(kind):
        for name, number in Counter(field.name for field in kind).most_common(1):
            if number > 1:
                return str(name)
    children = (kind.field(index).type for index in range(kind.num_fields))
    return next((name for child in children if (name := repeated_field(child)) is not None), None)


def arrow_values(array: pa.Array, kind: pa.DataType) -> list[Any]:
    """Returns an array's values for ``pa.array(values, kind)``; ``MISFIT`` for those that do not fit.

    Only a cast that loses nothing is made (see ``is_lossless``); the others fit no value.
    """
    array = _stored(array)
    if not is_lossless(array.type, kind):
        return [MISFIT if is_valid else None for is_valid in array.is_valid().to_pylist()]
    try:
        return _cast(array, kind)
    except CAST_ERRORS:
        return [_one_value(array.slice(index, 1), kind) for index in range(len(array))]


def id_values(array: pa.Array) -> list[Any]:
    """Returns the values of an id column as strings; ``MISFIT`` for those that are not valid Unicode."""
    array = _stored(array)
    if pa.types.is_integer(array.type):
        array = pc.cast(array, pa.string())
    return arrow_values(array, pa.string())


def stored_values(array: pa.Array) -> list[Any]:
    """Returns the Python values that an array is stored as."""
    array = _stored(array)
    values: list[Any] = array.cast(storage_type(array.type)).to_pylist()
    return values


def _stored(array: pa.Array) -> pa.Array:
    return array.storage if isinstance(array, pa.ExtensionArray) else array


def _one_value(array: pa.Array, kind: pa.DataType) -> Any:
    if array.null_count:
        return None
    try:
        return _cast(array, kind)[0]
    except CAST_ERRORS:
        return MISFIT


def _cast(array: pa.Array, kind: pa.DataType) -> list[Any]:
    if array.type != kind:
        array = pc.cast(array, kind)
    storage = storage_type(kind)
    values: list[Any] = (array if storage == kind else array.cast(storage)).to_pylist()
    return values


def is_lossless(source: pa.DataType, kind: pa.DataType) -> bool:
    """Whether a checked cast between types keeps the meaning of every value that it accepts.

    Among numbers, integers may become other integers or floats and floats wider ones; times may have another
    unit, but a time without a zone is none with one; a struct may lack fields, but not lose any. A number is
    no text, no time and no truth value.
    """
    source, types = plain_type(source), pa.types
    if source == kind or types.is_null(source):
        return True
    if types.is_struct(source) and types.is_struct(kind):
        return _fits_struct(source, kind)
    if types.is_map(source) and types.is_map(kind):
        return is_lossless(source.key_type, kind.key_type) and is_lossless(source.item_type, kind.item_type)
    if _is_list(source) and _is_list(kind):
        return is_lossless(source.value_type, kind.value_type)
    if types.is_timestamp(source) and types.is_timestamp(kind):
        return (source.tz is None) == (kind.tz is None)
    if types.is_floating(source):
        return bool(types.is_floating(kind)) and source.bit_width <= kind.bit_width
    if types.is_integer(source):
        return bool(types.is_integer(kind) or types.is_floating(kind))
    return any(is_one(source) and is_one(kind) for is_one in _FAMILIES)


def _fits_struct(source: pa.DataType, kind: pa.DataType) -> bool:
    fields = {field.name: field.type for field in kind}
    names = [field.name for field in source]
    return (
        len(fields) == kind.num_fields
        and len(set(names)) == len(names)
        and all(field.name in fields and is_lossless(field.type, fields[field.name]) for field in source)
    )


def _is_list(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def _is_binary(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind))


# Types among which a checked cast rejects every value that it would change.
_FAMILIES: tuple[Callable[[pa.DataType], bool], ...] = (
    pa.types.is_string,
    _is_binary,
    pa.types.is_decimal,
    pa.types.is_date,
    pa.types.is_time,
    pa.types.is_duration,
)


def arrow_converter(name: str, kind: pa.DataType) -> Callable[[Any], Any]:
    """Builds the function that passes on values of ``arrow_values`` and rejects misfits.

    Raises (the function):
        RecordError: ``column_type``.
    """

    def convert(value: Any) -> Any:
        if value is MISFIT:
            raise misfit(name, kind, "a value that does not fit")
        return value

    return convert
