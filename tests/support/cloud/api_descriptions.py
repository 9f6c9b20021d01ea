"""Checks JSON against Google's own descriptions of its services, which ship in google-api-python-client."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

_KINDS: dict[str, type | tuple[type, ...]] = {
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
}


def description(api: str) -> dict[str, Any]:
    """Reads the description of ``dataflow.v1b3`` and the like."""
    spec = importlib.util.find_spec("googleapiclient")
    assert spec is not None
    assert spec.origin is not None
    path = Path(spec.origin).parent / "discovery_cache" / "documents" / f"{api}.json"
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def faults(api: str, schema: str, value: Any) -> list[str]:
    """Lists what the service would refuse of a value."""
    document = description(api)
    return list(_faults(document["schemas"], {"$ref": schema}, value, "$"))


def _faults(schemas: dict[str, Any], schema: dict[str, Any], value: Any, place: str) -> list[str]:
    schema = schemas[schema["$ref"]] if "$ref" in schema else schema
    kind: str = schema["type"]
    if kind == "object":
        return _object_faults(schemas, schema, value, place)
    if kind == "array":
        if not isinstance(value, list):
            return [f"{place}: a list is expected"]
        return [
            f
            for i, item in enumerate(value)
            for f in _faults(schemas, schema["items"], item, f"{place}[{i}]")
        ]
    if kind == "any":
        return []
    if not isinstance(value, _KINDS[kind]) or (isinstance(value, bool) and kind != "boolean"):
        return [f"{place}: {kind} is expected, not {value!r}"]
    if "enum" in schema and value not in schema["enum"]:
        return [f"{place}: {value!r} is none of {schema['enum']}"]
    return []


def _object_faults(schemas: dict[str, Any], schema: dict[str, Any], value: Any, place: str) -> list[str]:
    if not isinstance(value, dict):
        return [f"{place}: an object is expected"]
    found: list[str] = []
    known, others = schema.get("properties", {}), schema.get("additionalProperties")
    for name, inner in value.items():
        described = known.get(name, others)
        if described is None:
            found.append(f"{place}.{name}: no such field")
            continue
        if described.get("readOnly"):
            found.append(f"{place}.{name}: only the service sets it")
        found += _faults(schemas, described, inner, f"{place}.{name}")
    return found
