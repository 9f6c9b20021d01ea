"""Calls to Google's services with the credentials of whoever runs a script."""

from __future__ import annotations

import json
import sys
from typing import Any

DATAFLOW_URL = "https://dataflow.googleapis.com"
SCHEDULER_URL = "https://cloudscheduler.googleapis.com"


def show(content: Any) -> None:
    """Prints JSON as it would be sent."""
    print(json.dumps(content, indent=2, ensure_ascii=False))


def call(method: str, url: str, body: Any) -> tuple[int, Any]:
    """Sends JSON and gives the status and what came back.

    A service that is busy (429, 503) is asked again by the session. An answer of 400 or above other than 404
    ends the script with what the service said.
    """
    import google.auth
    import google.auth.exceptions
    from google.auth.transport.requests import AuthorizedSession
    from requests.adapters import HTTPAdapter
    from urllib3.util import Retry

    try:
        credentials, _ = google.auth.default(scopes=["https://www.googleapis.com/auth/cloud-platform"])
        session = AuthorizedSession(credentials)
        retry = Retry(total=4, backoff_factor=0.5, status_forcelist=[429, 503], allowed_methods=None)
        for scheme in ("https://", "http://"):
            session.mount(scheme, HTTPAdapter(max_retries=retry))
        answer = session.request(method, url, json=body, timeout=60)
    except google.auth.exceptions.GoogleAuthError as error:
        raise SystemExit(
            f"No valid credentials: {error}\nLog in: gcloud auth application-default login"
        ) from error
    if answer.status_code >= 400 and answer.status_code != 404:
        raise SystemExit(f"{method} {url} was refused with {answer.status_code}:\n{answer.text.strip()}")
    return answer.status_code, answer.json() if answer.content else {}


def say(text: str) -> None:
    """Says something to a person, beside what is printed for programs."""
    print(text, file=sys.stderr)
