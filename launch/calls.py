"""Calls Google's services with the application default credentials."""

from __future__ import annotations

import json
import sys
from typing import Any

DATAFLOW_URL = "https://dataflow.googleapis.com"
SCHEDULER_URL = "https://cloudscheduler.googleapis.com"


def print_json(content: Any) -> None:
    """Prints a request body as indented JSON."""
    print(json.dumps(content, indent=2, ensure_ascii=False))


def call(method: str, url: str, body: Any) -> tuple[int, Any]:
    """Sends JSON and returns the status and the decoded response.

    Requests to a busy service (429, 503) are retried. Any other status of 400 or above, except 404, ends the
    script with the response as message.
    """
    import google.auth
    import google.auth.exceptions
    from google.auth.transport.requests import AuthorizedSession
    from requests import Session
    from requests.adapters import HTTPAdapter
    from urllib3.util import Retry

    try:
        credentials, _ = google.auth.default(scopes=["https://www.googleapis.com/auth/cloud-platform"])
        session: Session = AuthorizedSession(credentials)  # type: ignore[no-untyped-call]
        retry = Retry(total=4, backoff_factor=0.5, status_forcelist=[429, 503], allowed_methods=None)
        for scheme in ("https://", "http://"):
            session.mount(scheme, HTTPAdapter(max_retries=retry))
        answer = session.request(method, url, json=body, timeout=60)
    except google.auth.exceptions.GoogleAuthError as error:
        raise SystemExit(
            f"No valid credentials: {error}\nLog in: gcloud auth application-default login"
        ) from error
    if answer.status_code >= 400 and answer.status_code != 404:
        raise SystemExit(f"{method} {url} failed with status {answer.status_code}:\n{answer.text.strip()}")
    return answer.status_code, answer.json() if answer.content else {}


def print_message(text: str) -> None:
    """Prints a message to standard error, apart from output for programs."""
    print(text, file=sys.stderr)
