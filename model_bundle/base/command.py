"""The edge of every command: flags in, one message and an exit code out. ``beam_jobs`` uses it, too."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import select
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import ClassVar, NoReturn, TextIO

from model_bundle import __version__
from model_bundle.base.collection import skip_collection_at_exit
from model_bundle.base.system_errors import explain_system_error
from model_bundle.base.untrusted.printable import show
from model_bundle.errors import UsageError

# Narrower than this, wrapping helps nobody.
_MIN_WIDTH = 40
_WORD = r"""(?:"[^"]*"|'[^']*'|[^\s"'])+"""
# A flag stays on the line of its value.
_UNIT = re.compile(rf"--?[a-z_]+ (?!-){_WORD}|{_WORD}")


class Parser(argparse.ArgumentParser):
    """An ``ArgumentParser`` that raises on wrong use and fits its help to the terminal's width.

    argparse itself exits in some cases and raises in others, and which ones differs between Python versions.

    Args:
        prog: the command as it is typed.
        description: paragraphs; an indented line is an entry of a list, its text after two or more spaces.
        epilog: like ``description``; printed after the flags.
        examples: what is typed after the command, one per entry; printed at the end.
        has_version: whether ``--version`` is a flag; commands below another one have none of their own.
        add_help: whether ``--help`` is a flag.
        conflict_handler: as in argparse.
    """

    usage_error: ClassVar[type[Exception]] = UsageError

    def __init__(
        self,
        *,
        prog: str | None = None,
        description: str | None = None,
        epilog: str | None = None,
        examples: Sequence[str] = (),
        has_version: bool = False,
        add_help: bool = True,
        conflict_handler: str = "error",
    ) -> None:
        super().__init__(
            prog=prog,
            description=description,
            epilog=epilog,
            allow_abbrev=False,
            add_help=add_help,
            conflict_handler=conflict_handler,
            formatter_class=_HelpFormatter,
        )
        self.examples = tuple(f"{self.prog} {example}" for example in examples)
        if has_version:
            self.add_argument("--version", action="version", version=f"beam-embedding-jobs {__version__}")

    def error(self, message: str) -> NoReturn:
        """Raises ``usage_error``, whose message ends with where help is."""
        raise self.usage_error(f"{message}. See: {self.prog} --help")

    def format_help(self) -> str:
        """Returns the help text, with the examples at its end."""
        if not self.examples:
            return super().format_help()
        lines = [line for example in self.examples for line in _wrap_command(example, terminal_width())]
        return "\n".join([super().format_help(), "examples:", *lines, ""])


class _HelpFormatter(argparse.HelpFormatter):
    """Wraps descriptions by paragraph and list entry, and names in the usage only what is required.

    argparse lists all flags there, indented by the length of the command: forty lines, wider than a terminal.
    """

    def add_usage(
        self,
        usage: str | None,
        actions: Iterable[argparse.Action],
        groups: Iterable[argparse._MutuallyExclusiveGroup],
        prefix: str | None = None,
    ) -> None:
        given = list(actions)
        required = [action for action in given if action.required]
        words = [
            " ".join([*action.option_strings[:1], str(action.metavar or action.dest)]) for action in required
        ]
        words = [self._prog, *words, *(["[flags]"] if len(required) < len(given) else [])]
        # An empty prefix asks for the name of a command below this one.
        width = self._width if prefix is None else sys.maxsize
        text = textwrap.fill(" ".join(words), width - 7, break_on_hyphens=False, break_long_words=False)
        super().add_usage(usage or text.replace("\n", "\n       ").replace("%", "%%"), given, groups, prefix)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        del indent
        return "\n".join(line for part in text.splitlines() for line in _wrap_line(part, width))


def _wrap_line(line: str, width: int) -> list[str]:
    entry = re.match(r"\s+\S.*?\s{2,}", line)
    indent = " " * len(entry[0] if entry else "")
    return textwrap.wrap(line, width, subsequent_indent=indent, break_on_hyphens=False) or [""]


def _wrap_command(command: str, width: int) -> Iterator[str]:
    r"""Yields the lines of a shell command, which stays one when it is pasted.

    >>> print(*_wrap_command("python -m x --query 'two words' --top 3", 28), sep="\n")
      python -m x \
        --query 'two words' \
        --top 3
    """
    line, indent = "", "  "
    for words in re.findall(_UNIT, command):
        if line and len(indent) + len(line) + len(words) + 3 > width:
            yield f"{indent}{line} \\"
            line, indent = "", "    "
        line = f"{line} {words}" if line else words
    yield indent + line


def terminal_width() -> int:
    """Returns the columns of text that fit into the terminal, as argparse counts them."""
    return max(shutil.get_terminal_size().columns - 2, _MIN_WIDTH)


def print_error(message: str, exit_code: int) -> None:
    """Prints a message that ends a command to the standard error."""
    with contextlib.suppress(OSError):  # nobody reads it; the exit code is still there
        show("interrupted" if exit_code == 130 else f"error: {message}", sys.stderr)


def _is_own_process() -> bool:
    """Whether Python was started for a command (``python -m``), and not for a program that calls one.

    Such a program may use libraries that report what the garbage collector has left of theirs.
    """
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return spec is not None and spec.name.partition(".")[0] in ("beam_jobs", "model_bundle")


def run_command(command: Callable[[], int | None], report: Callable[[str, int], None] = print_error) -> int:
    """Runs a command and turns what ends it into one message and an exit code.

    Args:
        command: does the work; None means 0.
        report: prints a message, given the exit code.

    Returns:
        The command's own code; 0 when the reader of its output has gone; an error's ``exit_code`` (2 for
        wrong use); 1 for a full disk, a lost network or a lost permission; 130 after Ctrl-C.
        Anything else that is raised is a bug and passes through.
    """
    if _is_own_process():
        skip_collection_at_exit()
    code = 0
    try:
        code = command() or 0
        if sys.stdout is not None:
            sys.stdout.flush()
    except SystemExit as ended:  # argparse after --help and --version
        code = ended.code if isinstance(ended.code, int) else 0
    except KeyboardInterrupt:
        code = 130
        report("interrupted", code)
    except Exception as error:
        if not _is_closed_pipe(error):
            message, code = _judge(error)
            report(message, code)
    finally:
        _settle_output()
    return code


def _judge(error: Exception) -> tuple[str, int]:
    """Returns the message and exit code of an error that a user can do something about; else raises it."""
    exit_code = getattr(error, "exit_code", None)
    if isinstance(exit_code, int):
        return str(error), exit_code
    message = explain_system_error(error)
    if message is None:
        raise error
    return message, 1


def _is_closed_pipe(error: Exception) -> bool:
    """Whether nobody reads the output any more; a connection that broke raises the same error."""
    streams: Iterable[TextIO | None] = (sys.stdout, sys.stderr)
    return isinstance(error, BrokenPipeError) and any(_has_no_reader(stream) for stream in streams)


def _has_no_reader(stream: TextIO | None) -> bool:
    poll = select.poll()
    try:
        poll.register(sys.__stdout__ if stream is None else stream, 0)  # type: ignore[arg-type]
    except (OSError, ValueError, TypeError):  # a stream without a file below
        return False
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def _settle_output() -> None:
    """Writes out what is left; what cannot be written is dropped, or Python complains of it at exit."""
    try:
        sys.stdout.flush()
    except AttributeError:  # there is no standard output
        return
    except (OSError, ValueError):
        with contextlib.suppress(OSError, ValueError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, sys.stdout.fileno())
            os.close(null)
