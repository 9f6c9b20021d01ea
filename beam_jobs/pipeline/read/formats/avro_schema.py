"""Avro schemas: the Arrow types of their columns, and the schema that a decoder is given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import fastavro
import pyarrow as pa

from beam_jobs.pipeline.read.formats.avro_container import damaged
from beam_jobs.pipeline.read.types import FileColumns, FileInfo

# A schema whose types unfold to more would take hours to walk through, and days to read one record.
MAX_NODES = 1_000_000
MAX_DEPTH = 64
_UNITS = (("millis", "ms"), ("micros", "us"), ("nanos", "ns"))
_PRIMITIVES = {
    "null": pa.null(),
    "boolean": pa.bool_(),
    "int": pa.int32(),
    "long": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "bytes": pa.binary(),
    "string": pa.string(),
}
# Values stay the integers that they are stored as, which Arrow takes for all these types.
_LOGICAL = {
    ("int", "date"): pa.date32(),
    ("int", "time-millis"): pa.time32("ms"),
    ("long", "time-micros"): pa.time64("us"),
    **{("long", f"timestamp-{name}"): pa.timestamp(unit, "UTC") for name, unit in _UNITS},
    **{("long", f"local-timestamp-{name}"): pa.timestamp(unit) for name, unit in _UNITS},
}
_WIDER = ({pa.int32(), pa.int64()}, {pa.float32(), pa.float64()})


@dataclass(frozen=True)
class _Kind:
    """An Arrow type, and what it unfolds to: its number of types, and whether its values take no bytes."""

    arrow: pa.DataType
    num_nodes: int = 1
    is_empty: bool = False


class AvroSchema:
    """The schema of a file.

    Args:
        schema: the schema as JSON values; its names may be relative.

    Raises:
        DamagedFileError: it is no valid schema of a record, refers to itself, or is too large unfolded.
    """

    def __init__(self, schema: Any) -> None:
        try:
            self._record: Any = fastavro.parse_schema(schema)
        except Exception as error:  # fastavro raises errors of many types for what is no schema
            raise damaged(f"its schema is not valid ({type(error).__name__})") from error
        if not isinstance(self._record, dict) or self._record.get("type") not in ("record", "error"):
            raise damaged("its schema is not that of a record")
        self._names: dict[str, Any] = {}
        self._known: dict[str, _Kind | None] = {}
        self.types = {field["name"]: self._kind(field["type"], 1).arrow for field in self._record["fields"]}
        _checked_nodes(sum(kind.num_nodes for kind in self._known.values() if kind is not None))

    def columns(self, file: FileInfo) -> FileColumns:
        """Returns the columns of a file with this schema."""
        return FileColumns(file, self.types)

    def plain(self, names: set[str] | None = None) -> Any:
        """Returns the schema without logical types but decimals, so that times are decoded as integers.

        Args:
            names: the fields to read; None for all of them.
        """
        fields = [field for field in self._record["fields"] if names is None or field["name"] in names]
        return self._plain({**self._record, "fields": fields}, set())

    def _kind(self, schema: Any, depth: int) -> _Kind:
        if depth > MAX_DEPTH:
            raise damaged(f"its schema is nested more than {MAX_DEPTH} times")
        if isinstance(schema, list):
            return self._union([self._kind(one, depth + 1) for one in schema])
        if isinstance(schema, str):
            return (
                _Kind(_PRIMITIVES[schema], is_empty=schema == "null")
                if schema in _PRIMITIVES
                else self._named(schema)
            )
        kind = schema["type"]
        if kind in ("record", "error", "enum", "fixed"):
            return self._defined(schema, kind, depth)
        if kind == "array":
            return _list_of(self._kind(schema["items"], depth + 1))
        if kind == "map":
            values = self._kind(schema["values"], depth + 1)
            return _Kind(pa.map_(pa.string(), values.arrow), values.num_nodes + 1)
        if not isinstance(kind, str):
            return self._kind(kind, depth + 1)
        return _Kind(_decimal(schema) or _LOGICAL.get((kind, schema.get("logicalType")), _PRIMITIVES[kind]))

    def _named(self, name: str) -> _Kind:
        known = self._known.get(name)
        if known is None:
            raise damaged("a type in its schema contains itself")
        return known

    def _defined(self, schema: Any, kind: str, depth: int) -> _Kind:
        name = schema["name"]
        self._known[name], self._names[name] = None, schema
        if kind == "enum":
            found = _Kind(pa.string())
        elif kind == "fixed":
            found = _Kind(_decimal(schema) or pa.binary(schema["size"]), is_empty=schema["size"] == 0)
        else:
            fields = [(field["name"], self._kind(field["type"], depth + 1)) for field in schema["fields"]]
            found = _Kind(
                pa.struct([pa.field(name, one.arrow) for name, one in fields]),
                _checked_nodes(1 + sum(one.num_nodes for _, one in fields)),
                all(one.is_empty for _, one in fields),
            )
        self._known[name] = found
        return found

    def _union(self, kinds: list[_Kind]) -> _Kind:
        num_nodes = sum(kind.num_nodes for kind in kinds)
        arrows = {kind.arrow for kind in kinds} - {pa.null()}
        if not arrows:
            return _Kind(pa.null(), num_nodes)
        wider = next((max(some, key=lambda kind: kind.bit_width) for some in _WIDER if arrows <= some), None)
        if len(arrows) == 1 or wider is not None:
            return _Kind(wider or arrows.pop(), num_nodes)
        fields = [pa.field(str(kind), kind) for kind in sorted(arrows, key=str)]
        return _Kind(pa.dense_union(fields), num_nodes)

    def _plain(self, schema: Any, defined: set[str]) -> Any:
        """Copies a schema; a name is defined where it is used first, which a choice of fields may change."""
        if isinstance(schema, list):
            return [self._plain(one, defined) for one in schema]
        if isinstance(schema, str):
            if schema in _PRIMITIVES or schema in defined:
                return schema
            schema = self._names[schema]
        if not isinstance(schema["type"], str):
            return self._plain(schema["type"], defined)
        keys = _KEPT_KEYS + (_DECIMAL_KEYS if schema.get("logicalType") == "decimal" else ())
        kept = {key: schema[key] for key in keys if key in schema}
        if "name" in schema:
            if schema["name"] in defined:
                return schema["name"]
            defined.add(schema["name"])
        for key in ("items", "values"):
            if key in kept:
                kept[key] = self._plain(kept[key], defined)
        if "fields" in kept:
            kept["fields"] = [
                {"name": field["name"], "type": self._plain(field["type"], defined)}
                for field in kept["fields"]
            ]
        return kept


_KEPT_KEYS = ("type", "name", "fields", "items", "values", "symbols", "size")
_DECIMAL_KEYS = ("logicalType", "precision", "scale")


def _list_of(items: _Kind) -> _Kind:
    if items.is_empty:
        raise damaged("it has an array of values without bytes, of which any number fits into one record")
    return _Kind(pa.list_(items.arrow), items.num_nodes + 1)


def _checked_nodes(number: int) -> int:
    if number > MAX_NODES:
        raise damaged(f"its schema unfolds to more than {MAX_NODES:,} types")
    return number


def _decimal(schema: Any) -> pa.DataType | None:
    """Returns the type of a decimal; None for others, and for those that Arrow cannot hold."""
    precision, scale = schema.get("precision"), schema.get("scale", 0)
    if schema.get("logicalType") != "decimal" or type(precision) is not int or type(scale) is not int:
        return None
    if not 0 < precision <= 76 or not 0 <= scale <= precision:
        return None
    return pa.decimal128(precision, scale) if precision <= 38 else pa.decimal256(precision, scale)
