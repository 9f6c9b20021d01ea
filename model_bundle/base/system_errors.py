"""Errors of the machine around a command, and what to do about them: disk, permission, network."""

from __future__ import annotations

import errno
import re
import socket
from collections.abc import Iterator

_FULL = {errno.ENOSPC, errno.EDQUOT}
_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}
_NETWORK = {
    *(errno.ECONNABORTED, errno.ECONNREFUSED, errno.ECONNRESET, errno.EHOSTUNREACH),
    *(errno.ENETDOWN, errno.ENETUNREACH, errno.EPIPE, errno.ETIMEDOUT),
}
# Libraries of the network raise errors of their own, some of them no OSError; importing them takes long.
_CLOUD_DENIED = {"Forbidden", "Unauthorized"}
_CLOUD_NETWORK = {
    *("ConnectionError", "ConnectTimeout", "GatewayTimeout", "MaxRetryError", "NewConnectionError"),
    *("ReadTimeout", "RetryError", "ServiceUnavailable", "TransportError"),
}
_CLOUD_PACKAGES = ("google", "requests", "urllib3", "httpx", "httpcore", "apache_beam")
_NO_SPACE = "No space left on device{}. Free some, or write elsewhere; then start the command again."
_NO_PERMISSION = (
    "No permission{}: {}. Check its owner and mode (ls -ld), or name a place that this user may use."
)
_NO_ACCESS = (
    "Google Cloud denied access: {}. Log in with: gcloud auth application-default login. The account needs "
    "the role Storage Object Admin on buckets that are written to, Storage Object Viewer on those that are "
    "read."
)
_NO_NETWORK = (
    "The network failed: {}. Check the connection, a proxy or firewall, and the address; then start the "
    "command again."
)


def explain_system_error(error: BaseException) -> str | None:
    """Returns what is wrong with the machine and what to do; None where an error is of another kind.

    The causes of an error are looked at, too: libraries wrap what the system told them.
    """
    for one in _causes(error):
        system = one if isinstance(one, OSError) else OSError()
        where = f" for {system.filename}" if system.filename else ""
        if system.errno in _FULL:
            return _NO_SPACE.format(where)
        if system.errno in _DENIED:
            return _NO_PERMISSION.format(where, _lower(str(system.strerror)))
        name = type(one).__name__ if type(one).__module__.split(".")[0] in _CLOUD_PACKAGES else ""
        is_login = type(one).__module__ == "google.auth.exceptions" and name not in _CLOUD_NETWORK
        if name in _CLOUD_DENIED or is_login:
            return _NO_ACCESS.format(first_line(one))
        is_network = isinstance(one, ConnectionError | socket.gaierror)
        if system.errno in _NETWORK or name in _CLOUD_NETWORK or is_network:
            return _NO_NETWORK.format(first_line(one))
    return explain_text(str(error))


def explain_text(text: str) -> str | None:
    """Explains an error of which only the text is left: of another process, or of TensorFlow.

    >>> explain_text("RuntimeError: x; No space left on device")
    'No space left on device. Free some, or write elsewhere; then start the command again.'
    """
    if re.search(r"No space left on device|Disk quota exceeded", text):
        return _NO_SPACE.format("")
    match = re.search(r"(Permission denied|Read-only file system)(?:[^\n']*'([^'\n]+)')?", text)
    if match is None:
        return None
    return _NO_PERMISSION.format(f" for {match[2]}" if match[2] else "", _lower(match[1]))


def _lower(text: str) -> str:
    return f"{text[:1].lower()}{text[1:]}"


def _causes(error: BaseException) -> Iterator[BaseException]:
    waiting, seen = [error], set[int]()
    while waiting:
        found = waiting.pop(0)
        if id(found) in seen:
            continue
        seen.add(id(found))
        yield found
        # Beam's file systems list the errors of several files in one, without a cause.
        listed = getattr(found, "exception_details", None)
        others = [
            found.__cause__ or found.__context__,
            *(listed if isinstance(listed, dict) else {}).values(),
        ]
        waiting += [other for other in others if isinstance(other, BaseException)]


def first_line(error: BaseException) -> str:
    """Returns the first line of a message, without its full stop; the name of an error that has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
