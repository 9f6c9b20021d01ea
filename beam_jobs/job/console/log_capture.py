"""Selects text or JSON console output and routes logs, warnings and prints through it."""

from __future__ import annotations

import contextlib
import io
import logging
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence

from beam_jobs.base.command import Parser
from beam_jobs.errors import UsageError
from beam_jobs.job.console.console import Console, JsonConsole, Severity, TextConsole
from model_bundle.base.system_errors import explain_system_error

LOG_FORMATS = ("text", "json")
_SEVERITIES: tuple[tuple[int, Severity], ...] = (
    (logging.CRITICAL, "CRITICAL"),
    (logging.ERROR, "ERROR"),
    (logging.WARNING, "WARNING"),
    (logging.INFO, "INFO"),
)


@contextlib.contextmanager
def open_console(argv: Sequence[str]) -> Iterator[Console]:
    """Yields the console that ``--log_format`` selects, and routes logs through it meanwhile.

    The flag is read before all others, so that errors in those are printed in its format, too. In JSON,
    Python's warnings and what libraries print become objects as well.
    """
    logging.getLogger("beam_jobs").setLevel(logging.INFO)
    with _filtered("apache_beam.options.pipeline_options", _is_not_about_a_flag), _console(argv) as console:
        yield console


@contextlib.contextmanager
def _console(argv: Sequence[str]) -> Iterator[Console]:
    if _asked_for(argv) != "json":
        logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
        with _filtered("apache_beam.runners.common", _is_news):
            yield TextConsole()
        return
    console, root = JsonConsole(), logging.getLogger()
    handler, others, level = _ConsoleHandler(console), root.handlers[:], root.level
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.captureWarnings(True)
    try:
        with contextlib.redirect_stderr(_Printed(console)):
            yield console
    except Exception as error:  # the edge of the process: a bug is reported, then the process ends
        trace = "".join(traceback.format_exception(error))
        console.print(
            "error", f"{type(error).__name__}: {error}", "CRITICAL", {"exit_code": 1, "stack_trace": trace}
        )
        raise SystemExit(1) from error
    finally:
        logging.captureWarnings(False)
        root.handlers[:] = others
        root.setLevel(level)


@contextlib.contextmanager
def _filtered(name: str, is_kept: Callable[[logging.LogRecord], bool]) -> Iterator[None]:
    logger = logging.getLogger(name)
    logger.addFilter(is_kept)
    try:
        yield
    finally:
        logger.removeFilter(is_kept)


def _is_not_about_a_flag(record: logging.LogRecord) -> bool:
    """Whether to keep a record: Beam warns of flags that only an engine's server knows.

    They arrive there, and a flag that nobody knows has been rejected before (``flags/beam.py``).
    """
    return not record.getMessage().startswith("Unparseable argument")


def _asked_for(argv: Sequence[str]) -> str:
    parser = Parser(add_help=False)
    parser.add_argument("--log_format", default="text")
    try:
        found: str = parser.parse_known_args(list(argv))[0].log_format
    except UsageError:  # reported when all flags are read
        return "text"
    return found


def _is_news(record: logging.LogRecord) -> bool:
    """Whether a record is not Beam's traceback of a full disk or the like, of which the job's error tells."""
    return not (record.exc_info and record.exc_info[1] and explain_system_error(record.exc_info[1]))


class _ConsoleHandler(logging.Handler):
    """Prints log records."""

    def __init__(self, console: JsonConsole) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        facts = {"logger": record.name}
        if record.exc_info and record.exc_info[1] is not None:
            facts["stack_trace"] = "".join(traceback.format_exception(*record.exc_info))
        self._console.print("log", record.getMessage(), severity_of(record.levelno), facts)


def severity_of(level: int) -> Severity:
    """Returns the severity of a logging level, those between the named ones included."""
    return next((name for number, name in _SEVERITIES if level >= number), "DEBUG")


class _Printed(io.TextIOBase):
    """A standard error whose lines become objects. Threads may share it; simultaneous prints may mix."""

    def __init__(self, console: JsonConsole) -> None:
        self._console = console
        self._begun = ""

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return sys.__stderr__.fileno() if sys.__stderr__ is not None else 2

    def write(self, text: str) -> int:
        *lines, self._begun = (self._begun + text).split("\n")
        for line in lines:
            if line.strip():
                self._console.print("output", line.strip())
        return len(text)
