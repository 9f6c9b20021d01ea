"""The edge of commands: exit codes, one message, and faults of the machine that is really there."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from model_bundle.base.command import Parser, run_command
from model_bundle.base.system_errors import explain_system_error, explain_text
from model_bundle.errors import SettingsError, UsageError


def ended(command: Callable[[], int | None]) -> tuple[int, list[str]]:
    """Runs a command and returns its exit code and messages."""
    messages: list[str] = []
    return run_command(command, lambda message, code: messages.append(f"{code}: {message}")), messages


def raises(error: BaseException) -> Callable[[], int]:
    def command() -> int:
        raise error

    return command


def test_a_command_ends_with_its_own_code() -> None:
    assert ended(lambda: None) == (0, [])
    assert ended(lambda: 3) == (3, [])
    assert ended(raises(SettingsError("not this"))) == (2, ["2: not this"])
    assert ended(raises(KeyboardInterrupt())) == (130, ["130: interrupted"])


def test_a_bug_passes_through() -> None:
    with pytest.raises(ZeroDivisionError):
        run_command(raises(ZeroDivisionError()))
    with pytest.raises(FileNotFoundError):
        run_command(raises(FileNotFoundError(errno.ENOENT, "No such file", "x")))


def test_a_full_disk_is_one_message() -> None:
    def fill() -> None:
        with Path("/dev/full").open("wb") as stream:
            stream.write(b"x" * 100_000)

    code, (message,) = ended(fill)
    assert code == 1
    assert message.startswith("1: No space left on device. Free some")


def test_a_folder_that_may_not_be_written_is_one_message(denied: Path) -> None:
    code, (message,) = ended(lambda: (denied / "bundle").mkdir())
    assert code == 1
    assert f"No permission for {denied / 'bundle'}: " in message
    assert "ls -ld" in message


@pytest.mark.parametrize("connect", ["socket", "requests"])
def test_a_lost_network_is_one_message(connect: str) -> None:
    with socket.socket() as taken:  # bound and not listening: nobody answers there
        taken.bind(("127.0.0.1", 0))
        host, port = taken.getsockname()

        def call() -> None:
            if connect == "socket":
                socket.create_connection((host, port), timeout=5)
            else:
                requests.get(f"http://{host}:{port}", timeout=5)

        code, (message,) = ended(call)
    assert code == 1
    assert message.startswith("1: The network failed: ")
    assert "start the command again" in message


def test_a_broken_connection_is_not_a_closed_pipe() -> None:
    """Both are a BrokenPipeError; only the one of the output is a good end."""

    def send() -> None:
        here, there = socket.socketpair()
        there.close()
        with here:
            here.sendall(b"x")

    code, (message,) = ended(send)
    assert (code, message[:22]) == (1, "1: The network failed:")


def test_the_cause_of_an_error_counts() -> None:
    wrapped = RuntimeError("cannot write")
    wrapped.__cause__ = OSError(errno.ENOSPC, "No space left on device", "shard")
    assert explain_system_error(wrapped) == (
        "No space left on device for shard. Free some, or write elsewhere; then start the command again."
    )
    assert explain_system_error(ValueError("x")) is None


def test_text_of_another_process_is_understood() -> None:
    assert explain_text("UNKNOWN: x; No space left on device [Op:Save]") is not None
    denied = explain_text("PermissionError: [Errno 13] Permission denied: '/out' [while running 'Write']")
    assert denied is not None
    assert denied.startswith("No permission for /out: permission denied.")
    assert explain_text("the cat sat") is None


def test_wrong_use_is_raised_and_never_exits() -> None:
    parser = Parser(prog="x", has_version=True)
    parser.add_subparsers(required=True, metavar="COMMAND").add_parser("y", examples=["x y"])
    for arguments in ([], ["z"], ["y", "--unknown"]):
        with pytest.raises(UsageError, match=r"See: x.* --help"):
            parser.parse_args(arguments)


@given(
    words=st.lists(st.text("abcxyz", min_size=1, max_size=25), min_size=1, max_size=40),
    columns=st.integers(42, 120),
)
def test_help_fits_any_width(words: list[str], columns: int) -> None:
    parser = Parser(prog="x", description=" ".join(words), examples=[f"--flag '{words[0]} y' --other z"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", str(columns))
        lines = parser.format_help().splitlines()
    assert max(map(len, lines)) <= columns
    assert "\n".join(lines).split("options:")[0].split()[3:] == words


def test_a_list_in_a_description_hangs_its_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "42")
    text = "Does it.\n\n  ROOT list   all runs below a root, failed ones included"
    assert Parser(prog="x", description=text).format_help().splitlines()[2:6] == [
        "Does it.",
        "",
        "  ROOT list   all runs below a root,",
        "              failed ones included",
    ]
