"""Chooses the function of a module by its inputs, whatever their names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

from model_bundle.builders.tfhub.function import ModuleFunction, module_functions
from model_bundle.builders.tfhub.load import LoadedModule
from model_bundle.errors import SourceError

Role = Literal["ids", "mask", "types", "text", "words", "lengths"]
# The usual names of the main signature.
_USUAL = ("serving_default", "default")
_TYPE_NAME = re.compile(r"type|segment")


def roles_of(function: ModuleFunction) -> dict[str, Role] | None:
    """Returns the role of each input by name; None if unknown.

    Texts: one string[texts]. Words: string[texts, words] and int[texts]. Token ids:
    int[texts, tokens], distinguished by name: a mask, types or segments, and ids.
    """
    inputs = function.inputs
    strings = [name for name, spec in inputs.items() if spec.dtype.name == "string"]
    others = [name for name in inputs if name not in strings]
    if len(strings) == 1 and not others and _rank(inputs[strings[0]], 1):
        return {strings[0]: "text"}
    if len(strings) == len(others) == 1 and _is_words(inputs[strings[0]], inputs[others[0]]):
        return {strings[0]: "words", others[0]: "lengths"}
    if not strings and others and all(_is_int(inputs[name]) and _rank(inputs[name], 2) for name in others):
        roles = {name: id_role(name) for name in others}
        return roles if sorted(roles.values()) in (["ids", "mask"], ["ids", "mask", "types"]) else None
    return None


def choose_function(loaded: LoadedModule, wanted: str | None) -> tuple[ModuleFunction, Mapping[str, Role]]:
    """Chooses the function to call.

    Args:
        loaded: a module.
        wanted: a signature, or ``call`` for the module's ``__call__``. None prefers a ``__call__`` with named
            outputs, then a signature that takes words with their number, then one with a usual name, then
            the only one.

    Raises:
        SourceError: there is no such signature, no usable one, or several; all are listed.
    """
    functions = module_functions(loaded)
    usable = [(function, roles) for function in functions if (roles := roles_of(function)) is not None]
    if wanted is not None:
        usable = [(function, roles) for function, roles in usable if function.name == wanted]
        if not usable:
            raise _unusable(loaded, functions, f"--signature {wanted}")
        return usable[0]
    if not usable:
        raise _unusable(loaded, functions, "A signature")
    best = min(_preference(function, roles) for function, roles in usable)
    chosen = [pair for pair in usable if _preference(*pair) == best]
    if len({function.name for function, _ in chosen}) > 1:
        listed = _list([function for function, _ in chosen])
        raise SourceError(
            f"{loaded.module.location} has several usable signatures; choose one with --signature:\n{listed}"
        )
    return chosen[0]


def _preference(function: ModuleFunction, roles: Mapping[str, Role]) -> int:
    """Returns the rank of a usable function; the lowest is chosen."""
    if function.is_call and function.is_named:
        return 0
    if "words" in roles.values():
        return 1
    if function.name in _USUAL:
        return 2 + _USUAL.index(function.name)
    return 5 if function.is_call else 4


def _unusable(loaded: LoadedModule, functions: list[ModuleFunction], what: str) -> SourceError:
    return SourceError(
        f"{what}: expected one of {loaded.module.location} that takes texts (string[texts]), words and their "
        "number (string[texts, words], int[texts]), or token ids with a mask. It has:\n" + _list(functions)
    )


def _list(functions: list[ModuleFunction]) -> str:
    return "\n".join(f"  {line}" for line in dict.fromkeys(f.describe() for f in functions)) or "  none"


def _is_words(words: Any, lengths: Any) -> bool:
    return _rank(words, 2) and _is_int(lengths) and _rank(lengths, 1)


def id_role(name: str) -> Role:
    """Returns the role of a token tensor, ids, mask or types, by its name."""
    if "mask" in name:
        return "mask"
    return "types" if _TYPE_NAME.search(name) else "ids"


def _is_int(spec: Any) -> bool:
    return spec.dtype.name in ("int32", "int64")


def _rank(spec: Any, rank: int) -> bool:
    """Whether a tensor may have this rank; old exporters often do not state it."""
    return spec.shape.rank in (None, rank)
