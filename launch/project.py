"""Asks Google's services about the project of the settings."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from calls import send, service


class ProjectError(Exception):
    """What is wrong, and the command that mends it."""

    def __init__(self, text: str, mend: str) -> None:
        super().__init__(text)
        self.mend = mend


@dataclass(frozen=True)
class Project:
    """The settings, and where the services answer."""

    values: dict[str, str]
    service_url: str | None

    def get(self, name: str, path: str, missing: ProjectError | None = None, body: Any = None) -> Any:
        """Asks a service, with POST if there is a body, and decodes its answer; see ``read``."""
        return json.loads(self.read(name, path, missing, body))

    def read(self, name: str, path: str, missing: ProjectError | None = None, body: Any = None) -> bytes:
        """Asks a service and returns its answer.

        Raises:
            ProjectError: ``missing`` for 404, otherwise with what the service answered.
        """
        url = f"{service(name, self.service_url)}{path}"
        status, content = send("GET" if body is None else "POST", url, body)
        if status == 404 and missing is not None:
            raise missing
        if status >= 400:
            raise ProjectError(f"{name} answers with status {status}: {_message(content)}", self.enable(name))
        return content

    def read_object(self, url: str, missing: ProjectError) -> bytes:
        """Returns the content of a ``gs://`` object."""
        bucket, _, name = url.removeprefix("gs://").partition("/")
        return self.read("storage", f"/storage/v1/b/{bucket}/o/{quote(name, safe='')}?alt=media", missing)

    def enable(self, *names: str) -> str:
        """Returns the command that switches services on."""
        services = " ".join(f"{name}.googleapis.com" for name in names)
        return f"gcloud services enable {services} --project {self.values['PROJECT']}"

    def bucket(self, variable: str) -> str:
        """Returns the name of the bucket that a variable is, or is in."""
        value = self.values[variable]
        return value.split("/")[2] if value.startswith("gs://") else value

    @property
    def apply(self) -> str:
        """Returns the command that creates what Terraform describes."""
        return "terraform -chdir=launch/terraform apply"

    @property
    def compute(self) -> str:
        """Path of the project in Compute Engine."""
        return f"/compute/v1/projects/{self.values['PROJECT']}"


def _message(content: bytes) -> str:
    """Returns the message of an error, as the services word them."""
    try:
        return str(json.loads(content)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return content.decode(errors="replace")[:300]
