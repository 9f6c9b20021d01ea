"""Determines the role of each input of a signature, without guessing if several are possible."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any, Literal, get_args

from model_bundle.errors import SourceError

Role = Literal["text", "words", "lengths", "ids", "mask", "types", "numeric"]
ROLES: tuple[Role, ...] = get_args(Role)
_MASK = re.compile(r"mask", re.IGNORECASE)
_TYPES = re.compile(r"type|segment", re.IGNORECASE)
_IDS = re.compile(r"(^|_)ids?(_|$)|token|word", re.IGNORECASE)
_LENGTHS = re.compile(r"len", re.IGNORECASE)
# The possible roles of an input by dtype and rank; names decide among them.
_STRING: dict[int, tuple[Role, ...]] = {1: ("text",), 2: ("words", "text")}
_WHOLE: dict[int, tuple[Role, ...]] = {1: ("lengths", "numeric"), 2: ("ids", "mask", "types", "numeric")}
_REAL: dict[int, tuple[Role, ...]] = {1: ("numeric",), 2: ("numeric", "mask")}
# keras-bert and bert4keras declare token ids as float32, under these names.
_FLOAT_IDS: tuple[Role, ...] = ("ids", "types")
_FLOAT_NAMES: dict[str, Role] = {"input_token": "ids", "input_segment": "types"}
_NUM_LISTED = 8


def resolve_roles(inputs: Mapping[str, Any], stated: Mapping[str, Role], where: str) -> dict[str, Role]:
    """Determines the role of each input.

    Args:
        inputs: TensorSpecs by name.
        stated: the user's roles by name.
        where: what to call the model in an error.

    Raises:
        SourceError: an input cannot have its stated role, or there is no consistent assignment of roles, or
            more than one; they are listed as the flags that choose them.
    """
    unknown = sorted(stated.keys() - inputs.keys())
    if unknown:
        raise SourceError(
            f"--input {unknown[0]}: {where} has no such input. It has: {describe_inputs(inputs)}."
        )
    readings = list(_readings(inputs, stated, where))
    if len(readings) == 1:
        return readings[0]
    if not readings:
        raise SourceError(
            f"{where} takes {describe_inputs(inputs)}, which is not a known way to take texts. "
            "Expected string[texts], string[texts, words] with or without int[texts], int[texts, tokens] "
            "with or without a mask and types, and float[texts, columns] with any of these or alone."
        )
    flags = [" ".join(f"--input {name}={role}" for name, role in roles.items()) for roles in readings]
    more = f"\n  … and {len(flags) - _NUM_LISTED} more" if len(flags) > _NUM_LISTED else ""
    raise SourceError(
        f"{where} takes {describe_inputs(inputs)}, which can be used in {len(flags)} ways. Choose one:\n"
        + "\n".join(f"  {line}" for line in flags[:_NUM_LISTED])
        + more
    )


def describe_inputs(inputs: Mapping[str, Any]) -> str:
    """Returns a list of inputs with dtypes and shapes.

    >>> describe_inputs({})
    'nothing'
    """
    return ", ".join(f"{name} {_shape(spec)}" for name, spec in sorted(inputs.items())) or "nothing"


def _readings(inputs: Mapping[str, Any], stated: Mapping[str, Role], where: str) -> Iterator[dict[str, Role]]:
    names = sorted(inputs)
    choices = [
        _stated(name, inputs[name], stated[name], where) if name in stated else _likely(name, inputs[name])
        for name in names
    ]
    for roles in product(*choices):
        if _are_consistent(roles):
            yield dict(zip(names, roles, strict=True))


def _stated(name: str, spec: Any, role: Role, where: str) -> tuple[Role, ...]:
    possible = _possible(spec)
    if _may_be_float_ids(spec):
        possible += _FLOAT_IDS
    if role not in possible:
        raise SourceError(
            f"--input {name}={role}: {where} takes {name} {_shape(spec)}, which can be "
            f"{' or '.join(possible) or 'none of these'}."
        )
    return (role,)


def _possible(spec: Any) -> tuple[Role, ...]:
    """Returns the possible roles of an input, whatever its name."""
    by_rank = _STRING if spec.dtype.name == "string" else _WHOLE if spec.dtype.is_integer else _REAL
    if spec.dtype.is_bool:
        by_rank = {2: ("mask",)}
    if spec.shape.rank is None:
        return tuple(dict.fromkeys(role for roles in by_rank.values() for role in roles))
    roles = by_rank.get(spec.shape.rank, ())
    if spec.shape.rank == 2 and spec.shape[1] == 1:
        # A column: one text, one number.
        return tuple(
            "lengths" if role == "ids" else role for role in roles if role not in ("words", "mask", "types")
        )
    if spec.dtype.name == "string" and spec.shape.rank == 2 and spec.shape[1] is not None:
        return ("words",)
    return roles


def _likely(name: str, spec: Any) -> tuple[Role, ...]:
    """Returns the likely roles of an input; a usual name of BERT's inputs leaves one."""
    possible = _possible(spec)
    if _may_be_float_ids(spec) and name.lower() in _FLOAT_NAMES:
        return (_FLOAT_NAMES[name.lower()],)
    if spec.dtype.name == "string" or len(possible) < 2:
        return possible
    named: tuple[tuple[re.Pattern[str], Role], ...] = (
        (_MASK, "mask"),
        (_TYPES, "types"),
        (_LENGTHS, "lengths"),
        (_IDS, "ids"),
    )
    found = next((role for pattern, role in named if pattern.search(name) and role in possible), None)
    if found is not None:
        return (found,)
    return ("numeric",) if spec.dtype.is_floating else possible


def goes_with_tokens(name: str, spec: Any) -> bool:
    """Whether an input is a mask, types or lengths by its name: known for every text, whether used or not."""
    return _likely(name, spec) in (("mask",), ("types",), ("lengths",))


def _may_be_float_ids(spec: Any) -> bool:
    return bool(spec.dtype.is_floating and spec.shape.rank == 2 and spec.shape[1] != 1)


def _are_consistent(roles: Sequence[Role]) -> bool:
    """Whether roles are consistent: one kind of text, or only numbers; no role repeated but numbers."""
    counts = {role: roles.count(role) for role in ROLES}
    kinds = [role for role in ("text", "words", "ids") if counts[role]]
    return (
        all(count <= 1 for role, count in counts.items() if role != "numeric")
        and (len(kinds) == 1 or (not kinds and counts["numeric"] == len(roles) > 0))
        and (not counts["lengths"] or kinds == ["words"])
        and (not (counts["mask"] or counts["types"]) or kinds == ["ids"])
    )


def _shape(spec: Any) -> str:
    if spec.shape.rank is None:
        return f"{spec.dtype.name}[…]"
    sizes = ", ".join("?" if size is None else str(size) for size in spec.shape)
    return f"{spec.dtype.name}[{sizes}]"
