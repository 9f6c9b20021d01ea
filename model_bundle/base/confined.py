"""Runs a function in a confined process of its own, with what it prints and how it ends."""

from __future__ import annotations

import io
import json
import sys
import traceback
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

from model_bundle import errors
from model_bundle.base.sandbox import Limits, confine, missing_line
from model_bundle.errors import ModelBundleError, ModelCrashError

_SAID, _DONE, _FAILED = "said", "done", "failed"
_NOT_CONFINED = "no sandbox: the operations that you allowed need to reach beyond the model"
# What is said and what comes back are lines of text.
_MAX_MESSAGE_BYTES = 64_000_000


def run_confined(limits: Limits | None, work: Callable[..., Any], *arguments: Any) -> Any:
    """Calls a function in a new process that is confined before anything else happens in it.

    Args:
        limits: what the process may do with files; it has no network and starts no program. None: the
            process is not confined, because its user allowed the model to reach beyond it.
        work: a function of a module; it and its arguments must pickle. What it prints on standard output is
            printed here.
        arguments: for it.

    Returns:
        What it returned, as JSON holds it: a pickle from there would run code here.

    Raises:
        ModelBundleError: it raised that error.
        ModelCrashError: the process ended, or failed in another way.
    """
    context = get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_serve, args=(there, limits, work, arguments), daemon=True)
    process.start()
    there.close()
    try:
        return _listen(here, process)
    finally:
        process.terminate()
        process.join()
        here.close()


def _listen(connection: Connection, process: Any) -> Any:
    while True:
        try:
            kind, told = json.loads(connection.recv_bytes(_MAX_MESSAGE_BYTES))
        except ValueError as error:
            raise ModelCrashError(f"The process that loaded the model sent not an answer: {error}") from error
        except (EOFError, OSError):
            process.join()
            raise ModelCrashError(
                f"The process that loaded the model ended with exit code {process.exitcode}: it crashed, or "
                "ran out of memory."
            ) from None
        if kind == _DONE:
            return told
        if kind == _FAILED:
            raise _error(*told)
        print(told, end="", flush=True)


def _serve(
    connection: Connection, limits: Limits | None, work: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    """Runs in the new process."""
    line = _NOT_CONFINED if limits is None else missing_line(confine(limits))
    if line is not None:
        print(line, file=sys.stderr, flush=True)
    sys.stdout = _Said(connection)
    try:
        _send(connection, (_DONE, work(*arguments)))
    except ModelBundleError as error:
        _send(connection, (_FAILED, [type(error).__name__, str(error)]))
    except Exception as error:  # the boundary of this process
        traceback.print_exc()
        _send(connection, (_FAILED, ["", f"{type(error).__name__}: {error}"]))


def _send(connection: Connection, message: tuple[str, Any]) -> None:
    connection.send_bytes(json.dumps(message).encode())


class _Said(io.TextIOBase):
    """Sends what is printed to the process that listens."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def write(self, text: str) -> int:
        _send(self._connection, (_SAID, text))
        return len(text)


def _error(name: str, message: str) -> ModelBundleError:
    known = getattr(errors, name, None)
    kind = known if isinstance(known, type) and issubclass(known, ModelBundleError) else ModelCrashError
    made = kind.__new__(kind)
    made.args = (message,)
    return made
