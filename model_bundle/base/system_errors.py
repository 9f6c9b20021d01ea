"""Errors of the machine around a command, and what to do about them: disk, permission, network."""

from __future__ import annotations

import errno
import re
import socket
from collections.abc import Iterator

_FULL = {errno.ENOSPC, errno.EDQUOT}
_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}
_NETWORK = {
    errno.ECONNABORTED,
    errno.ECONNREFUSED,
    errno.ECONNRESET,
    errno.EHOSTUNREACH,
    errno.ENETDOWN,
    errno.ENETUNREACH,
    errno.EPIPE,
    errno.ETIMEDOUT,
}
# Libraries of the network raise errors of their own, some of them no OSError; importing them takes long.
_CLOUD_DENIED = {"Forbidden", "Unauthorized"}
_CLOUD_NETWORK = {
    "ConnectionError",
    "ConnectTimeout",
    "GatewayTimeout",
    "MaxRetryError",
    "NewConnectionError",
    "ReadTimeout",
    "RetryError",
    "ServiceUnavailable",
    "TransportError",
}
_CLOUD_PACKAGES = ("google", "requests", "urllib3", "httpx", "httpcore", "apache_beam")


def explain_system_error(error: BaseException) -> str | None:
    """Returns what is wrong with the machine and what to do; None where an error is of another kind.

    The causes of an error are looked at, too: libraries wrap what the system told them.
    """
    for one in _causes(error):
        where = f" {one.filename}" if isinstance(one, OSError) and one.filename else ""
        number = one.errno if isinstance(one, OSError) else None
        if number in _FULL:
            return _full(where)
        if number in _DENIED:
            return _denied(where, str(one.strerror if isinstance(one, OSError) else one))
        name = type(one).__name__ if type(one).__module__.split(".")[0] in _CLOUD_PACKAGES else ""
        is_login = type(one).__module__ == "google.auth.exceptions" and name not in _CLOUD_NETWORK
        if name in _CLOUD_DENIED or is_login:
            return (
                f"Google Cloud denied access: {_first_line(one)}. Log in with: gcloud auth "
                "application-default login. The account needs the role Storage Object Admin on buckets that "
                "are written to, Storage Object Viewer on those that are read."
            )
        if number in _NETWORK or name in _CLOUD_NETWORK or isinstance(one, ConnectionError | socket.gaierror):
            return (
                f"The network failed: {_first_line(one)}. Check the connection, a proxy or firewall, and the "
                "address; then start the command again."
            )
    return explain_text(str(error))


def explain_text(text: str) -> str | None:
    """Explains an error of which only the text is left: of another process, or of TensorFlow.

    >>> explain_text("RuntimeError: x; No space left on device")
    'No space left on device. Free some, or write elsewhere; then start the command again.'
    """
    if re.search(r"No space left on device|Disk quota exceeded", text):
        return _full("")
    match = re.search(r"(Permission denied|Read-only file system)(?:[^\n']*'([^'\n]+)')?", text)
    return _denied(f" {match[2]}" if match[2] else "", match[1]) if match else None


def _full(where: str) -> str:
    on = f" for{where}" if where else ""
    return f"No space left on device{on}. Free some, or write elsewhere; then start the command again."


def _denied(where: str, why: str) -> str:
    on = f" for{where}" if where else ""
    return (
        f"No permission{on}: {why[:1].lower()}{why[1:]}. Check its owner and mode (ls -ld), or name a "
        "place that this user may use."
    )


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
            *(listed.values() if isinstance(listed, dict) else ()),
        ]
        waiting += [other for other in others if isinstance(other, BaseException)]


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
