"""Calls Google's services with the application default credentials."""

from __future__ import annotations

import json
import sys
from functools import cache
from typing import Any

DATAFLOW, SCHEDULER = "dataflow", "cloudscheduler"


def service(name: str, service_url: str | None) -> str:
    """Returns the address of a Google service, or of the one server that stands in for all of them."""
    return service_url or f"https://{name}.googleapis.com"


def print_json(content: Any, *, to_stderr: bool = False) -> None:
    """Prints a request body as indented JSON."""
    print(json.dumps(content, indent=2, ensure_ascii=False), file=sys.stderr if to_stderr else sys.stdout)


def call(method: str, url: str, body: Any) -> tuple[int, Any]:
    """Sends JSON and returns the status and the decoded response.

    Any status of 400 or above, except 404, ends the script with the response as message.
    """
    status, content = send(method, url, body)
    if status >= 400 and status != 404:
        raise SystemExit(f"{method} {url} failed with status {status}:\n{content.decode().strip()}")
    return status, json.loads(content or b"{}")


def send(method: str, url: str, body: Any = None) -> tuple[int, bytes]:
    """Sends JSON and returns the status and the response.

    Requests to a busy service (429, 503) are retried.

    Raises:
        SystemExit: there are no valid credentials.
    """
    import google.auth.exceptions
    from requests import RequestException

    try:
        answer: Any = _session().request(method, url, json=body, timeout=60)
    except google.auth.exceptions.GoogleAuthError as error:
        raise SystemExit(
            f"No valid credentials: {error}\nLog in: gcloud auth application-default login"
        ) from error
    except RequestException as error:
        raise SystemExit(f"{method} {url} failed: {error}") from error
    return answer.status_code, answer.content


@cache
def _session() -> Any:
    """Returns the session of this process: one login, and retries."""
    import google.auth
    from google.auth.transport.requests import AuthorizedSession
    from requests.adapters import HTTPAdapter
    from urllib3.util import Retry

    credentials, _ = google.auth.default(scopes=["https://www.googleapis.com/auth/cloud-platform"])
    session = AuthorizedSession(credentials)  # type: ignore[no-untyped-call]
    retry = Retry(
        total=4,
        backoff_factor=0.5,
        status_forcelist=[429, 503],
        allowed_methods=None,
        raise_on_status=False,
    )
    for scheme in ("https://", "http://"):
        session.mount(scheme, HTTPAdapter(max_retries=retry))
    return session


def print_message(text: str) -> None:
    """Prints a message to standard error, apart from output for programs."""
    print(text, file=sys.stderr)
