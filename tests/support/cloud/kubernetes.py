"""Checks objects against Kubernetes' own schema of a CronJob, a small part of which is in tests/data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_PATH = Path(__file__).parents[2] / "data" / "kubernetes" / "cronjob.json"
_KINDS: dict[str, type | tuple[type, ...]] = {
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "object": dict,
    "array": list,
    "null": type(None),
}


def cronjob_faults(value: Any) -> list[str]:
    """Lists what an API server that validates strictly would refuse."""
    definitions = json.loads(_PATH.read_text(encoding="utf-8"))["definitions"]
    return list(_faults(definitions, {"$ref": "CronJob"}, value, "$"))


def _faults(definitions: dict[str, Any], schema: dict[str, Any], value: Any, place: str) -> list[str]:
    schema = definitions[schema["$ref"]] if "$ref" in schema else schema
    if "oneOf" in schema:
        each = [_faults(definitions, inner, value, place) for inner in schema["oneOf"]]
        return [] if any(not faults for faults in each) else each[0]
    named = schema.get("type", [])
    kinds = [named] if isinstance(named, str) else named
    is_kind = any(isinstance(value, _KINDS[kind]) for kind in kinds)
    if kinds and (not is_kind or (isinstance(value, bool) and "boolean" not in kinds)):
        return [f"{place}: {value!r} is no {kinds[0]}"]
    if "enum" in schema and value not in schema["enum"]:
        return [f"{place}: {value!r} is none of {schema['enum']}"]
    found = []
    if isinstance(value, list) and "items" in schema:
        for number, inner in enumerate(value):
            found += _faults(definitions, schema["items"], inner, f"{place}[{number}]")
    if isinstance(value, dict) and ("properties" in schema or "additionalProperties" in schema):
        known, others = schema.get("properties", {}), schema.get("additionalProperties")
        found += [f"{place}.{name}: missing" for name in schema.get("required", []) if name not in value]
        for name, inner in value.items():
            described = known.get(name, others)
            if described is None:
                found.append(f"{place}.{name}: unknown")
            else:
                found += _faults(definitions, described, inner, f"{place}.{name}")
    return found
