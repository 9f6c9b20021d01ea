"""Byte code of another Python is refused before it runs: nothing in Python checks it."""

from __future__ import annotations

import codecs
import dis
import marshal
import sys
from collections.abc import Callable
from pathlib import Path
from types import CodeType
from typing import Any

import pytest

from model_bundle.builders.keras.load import parent
from model_bundle.builders.keras.load.byte_code import check_byte_code
from model_bundle.builders.keras.load.child import LoadTask
from model_bundle.errors import ModelCrashError, SourceError


def uses_much(x: Any, scale: float = 2.0) -> Any:
    """Calls, compares, subscripts, loops, and has a function inside."""
    parts = [len(str(value)) for value in x if value is not None]
    return max(parts, key=lambda part: -part * scale) if parts[0] > 1 else sys.maxsize


FUNCTIONS: list[Callable[..., Any]] = [lambda x: x, lambda x: x * 2, uses_much, Path.exists, codecs.encode]


def stored(code: CodeType | bytes) -> str:
    data = code if isinstance(code, bytes) else marshal.dumps(code)
    return codecs.encode(data, "base64").decode("ascii")


def keras_2(text: str, key: str = "function") -> dict[str, Any]:
    config = {"name": "evil", key: [text, None, None], f"{key}_type": "lambda"}
    return {"class_name": "Sequential", "config": {"layers": [{"class_name": "Lambda", "config": config}]}}


def keras_3(text: str, key: str = "function") -> dict[str, Any]:
    function = {"class_name": "__lambda__", "config": {"code": text, "defaults": None, "closure": None}}
    return {"class_name": "Lambda", "config": {"name": "evil", key: function}}


def with_code(change: Callable[[bytes, int], bytes], at: str) -> bytes:
    """Changes stored byte code at an instruction, given its name and where it is."""
    code = uses_much.__code__
    place = next(found.offset for found in dis.get_instructions(code) if found.opname == at)
    old, new = code.co_code, change(code.co_code, place)
    # Not by ``code.replace``: what Python does not expect, it leaves out when it stores the code.
    return marshal.dumps(code).replace(sized(old), sized(new))


def sized(content: bytes) -> bytes:
    return len(content).to_bytes(4, "little") + content


def other_inside() -> CodeType:
    """Only the function inside is of another version."""
    code = uses_much.__code__
    inner = tuple(
        constant.replace(co_code=b"\xff\0" + constant.co_code) if isinstance(constant, CodeType) else constant
        for constant in code.co_consts
    )
    return code.replace(co_consts=inner)


@pytest.mark.parametrize("function", [f for f in FUNCTIONS if hasattr(f, "__code__")])
@pytest.mark.parametrize("form", [keras_2, keras_3])
def test_byte_code_of_this_python_passes(function: Any, form: Callable[[str], dict[str, Any]]) -> None:
    check_byte_code(form(stored(function.__code__)))


OTHERS: dict[str, CodeType | bytes] = {
    "an instruction that is not there": with_code(lambda c, at: c[:at] + b"\xff\0" + c[at:], "STORE_FAST"),
    "fewer free places": with_code(lambda c, at: c[: at + 2] + c[at + 4 :], "LOAD_GLOBAL"),
    "more free places": with_code(lambda c, at: c[: at + 2] + b"\0\0" + c[at + 2 :], "LOAD_GLOBAL"),
    "another start": with_code(lambda c, at: c[:at] + c[at + 2 :], "RESUME"),
    "a function inside": other_inside(),
    "another format": marshal.dumps(uses_much.__code__)[:40],
    "no code": marshal.dumps([1, 2]),
    "not marshalled": b"\xe3",
}


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize("form", [keras_2, keras_3])
@pytest.mark.parametrize("key", ["function", "output_shape", "mask"])
def test_byte_code_of_another_python_is_named(kind: str, form: Callable[..., Any], key: str) -> None:
    with pytest.raises(SourceError, match=r"byte code in evil.* not of Python 3\.\d+.*--lambda_function"):
        check_byte_code(form(stored(OTHERS[kind]), key))


def test_text_that_is_no_base_64_is_refused() -> None:
    for text in ("½", "a", "not base64"):
        with pytest.raises(SourceError, match="byte code in evil"):
            check_byte_code(keras_2(text))


@pytest.mark.parametrize("allow_code", [True, False])
def test_a_process_that_byte_code_ended_says_so(
    allow_code: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What passes the check may still be another version's, and end the process."""

    def ends(*_: Any) -> Any:
        raise ModelCrashError("The process that loaded the model ended with exit code -11.")

    monkeypatch.setattr(parent, "run_confined", ends)
    task = LoadTask("json", "", "{}", None, "", (), {}, {}, allow_code, False, str(tmp_path / "out"))
    fault = parent.run_task(task, 2).fault
    assert fault is not None
    assert "exit code -11" in fault
    assert ("another version of Python" in fault and "--lambda_function" in fault) == allow_code
