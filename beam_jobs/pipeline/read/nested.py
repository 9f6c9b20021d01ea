"""Values inside of values: ``a.b`` is the member ``b`` of the column ``a``, unless a column has that name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import methodcaller
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

Getter = Callable[[Mapping[str, Any]], Any]


def getter(name: str) -> Getter:
    """Builds the function that returns a value of a record; None where the record does not have it.

    >>> getter("a.b")({"a": {"b": 1}}), getter("a.b")({"a.b": 2}), getter("a.b")({"a": 3})
    (1, 2, None)
    """
    if "." not in name:
        return methodcaller("get", name)
    path = name.split(".")

    def get(record: Mapping[str, Any]) -> Any:
        if name in record:
            return record[name]
        value: Any = record
        for part in path:
            if not isinstance(value, dict):
                return None
            value = value.get(part)
        return value

    return get


def nested_column(batch: pa.RecordBatch, name: str) -> pa.Array:
    """Returns a column of a batch, or a field inside one; null where one of the structs around it is."""
    if batch.schema.get_field_index(name) >= 0:
        return batch.column(name)
    first, *others = name.split(".")
    return pc.struct_field(batch.column(first), others)
