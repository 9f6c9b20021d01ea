"""Checks that byte code in a Keras file is of this Python, before it runs; runs in the loading process.

Python does not check byte code: that of another version ends the process, or computes something else.
"""

from __future__ import annotations

import codecs
import marshal
import opcode
import re
import sys
from collections.abc import Iterator
from types import CodeType
from typing import Any

from model_bundle.errors import SourceError

WAY_OUT = (
    "Load the model with the Python that saved it, or give the function as your own code: "
    "--lambda_function LAYER=MODULE:FUNCTION for a Lambda layer."
)


def check_byte_code(config: Any) -> None:
    """Checks every function in an architecture.

    Raises:
        SourceError: one is of another version of Python.
    """
    for layer, text in _functions(config, "the model"):
        try:
            data = codecs.decode(text.encode("ascii"), "base64")
            code = marshal.loads(data)
        except (ValueError, TypeError, EOFError) as error:
            raise _foreign(layer) from error
        if not isinstance(code, CodeType) or not _is_of_this_python(code, data):
            raise _foreign(layer)


def _functions(value: Any, layer: str) -> Iterator[tuple[str, str]]:
    """Yields the byte code of functions, as text, in the forms of Keras 2 and 3; and the layer it is in."""
    if isinstance(value, list):
        for part in value:
            yield from _functions(part, layer)
    if not isinstance(value, dict):
        return
    layer = value["name"] if isinstance(value.get("name"), str) else layer
    if value.get("class_name") == "__lambda__" and isinstance(value.get("config"), dict):
        found = [value["config"].get("code")]
    else:
        forms = (value.get(key) for key in ("function", "output_shape", "mask"))
        found = [form[0] for form in forms if isinstance(form, list) and form]
    yield from ((layer, text) for text in found if isinstance(text, str))
    for part in value.values():
        yield from _functions(part, layer)


def _is_of_this_python(code: CodeType, data: bytes) -> bool:
    """Whether the instructions of a function, and of those in it, are of this version.

    They are taken from the stored data: in a code object, Python has written over some.
    """
    size = len(code._co_code_adaptive)  # type: ignore[attr-defined]  # since Python 3.11
    stored = re.finditer(b"[s\xf3]" + re.escape(size.to_bytes(4, "little")), data)
    inner = (constant for constant in code.co_consts if isinstance(constant, CodeType))
    return any(_fit(data[start.end() : start.end() + size]) for start in stored) and all(
        _is_of_this_python(constant, data) for constant in inner
    )


def _fit(instructions: bytes) -> bool:
    """Whether each instruction exists here, and is followed by as many free places as it has here.

    Versions differ in both, for names, calls and comparisons, and in the one that begins a function. What is
    the same in both means the same.
    """
    place, has_start = 0, False
    while place < len(instructions):
        number = instructions[place]
        name = opcode.opname[number]
        has_start |= name == "RESUME"
        end = place + 2 + 2 * _num_free(number)
        if name.startswith("<") or name == "CACHE" or any(instructions[place + 2 : end]):
            return False
        place = end
    return has_start and place == len(instructions)


def _num_free(number: int) -> int:
    """Returns how many places the interpreter keeps behind an instruction for what it learns there."""
    entries: Any = getattr(opcode, "_inline_cache_entries", ())
    if isinstance(entries, dict):  # from Python 3.13 on, by name
        return int(entries.get(opcode.opname[number], 0))
    return int(entries[number])


def _foreign(layer: str) -> SourceError:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return SourceError(
        f"The byte code in {layer} was not run: it is not of Python {version}, and could end the process "
        f"without a word. {WAY_OUT}"
    )
