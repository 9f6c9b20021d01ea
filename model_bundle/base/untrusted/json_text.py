"""Reads JSON that somebody else wrote: all its faults are one kind of error."""

from __future__ import annotations

import json
from typing import Any

# Python's own code recurses over what was read; nested Keras models need four levels each.
_MAX_DEPTH = 120
_MAX_DIGITS = 40


class JsonError(ValueError):
    """It is not JSON in UTF-8, or is nested or written in a way that no program writes it."""


def parse_json(data: bytes | str, *, allow_nan: bool = True) -> Any:
    """Parses JSON; ``allow_nan`` accepts NaN and Infinity, which Python writes.

    Raises:
        JsonError: a short description of what is wrong.

    >>> parse_json(b'{"a": [1, 2.5]}')
    {'a': [1, 2.5]}
    """
    try:
        value = json.loads(data, parse_int=_integer, parse_constant=float if allow_nan else _no_constant)
    except RecursionError:
        raise JsonError(f"it is nested more than {_MAX_DEPTH} levels deep") from None
    except ValueError as error:
        raise JsonError(str(error)) from error
    _check_depth(value)
    return value


def _integer(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise JsonError(f"a number has {len(digits)} digits, expected at most {_MAX_DIGITS}")
    return int(digits)


def _no_constant(name: str) -> float:
    raise JsonError(f"it contains {name}, which is not JSON")


def _check_depth(value: Any) -> None:
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(_MAX_DEPTH + 1):
        parts = [part for whole in level for part in (whole.values() if isinstance(whole, dict) else whole)]
        level = [part for part in parts if isinstance(part, dict | list)]
        if not level:
            return
    raise JsonError(f"it is nested more than {_MAX_DEPTH} levels deep")
