"""Google Cloud on this machine: storage, Dataflow and tokens, with faults where a test asks."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import RLock, Thread
from typing import Any
from urllib.parse import unquote, urlsplit

from tests.support.cloud.fake_console import FakeConsole
from tests.support.cloud.fake_dataflow import FakeDataflow
from tests.support.cloud.fake_storage import Answer, FakeStorage, Request, failure

# Beam checks all options only for endpoints that look like the service's. Those have no port; a proxy has.
ENDPOINT = "http://dataflow.sandbox"


@dataclass
class Fault:
    """Answers the next ``times`` requests whose ``METHOD path`` matches ``pattern`` with an error."""

    pattern: str
    code: int
    times: int = 1
    message: str = "injected"
    seen: int = 0


@dataclass
class FakeGoogle:
    """What the server holds: objects, jobs, every request, and the faults that are still to come."""

    storage: FakeStorage = field(default_factory=FakeStorage)
    dataflow: FakeDataflow = field(default_factory=FakeDataflow)
    console: FakeConsole | None = None
    faults: list[Fault] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    url: str = ""
    lock: RLock = field(default_factory=RLock)

    def answer(self, request: Request) -> Answer:
        """Answers one request."""
        with self.lock:
            self.requests.append(request)
            line = f"{request.method} {unquote(request.path)}"
            for fault in self.faults:
                if fault.seen < fault.times and re.search(fault.pattern, line):
                    fault.seen += 1
                    return failure(fault.code, fault.message)
            if request.path.endswith("/token"):
                return Answer(200, b'{"access_token": "fake", "expires_in": 3600, "token_type": "Bearer"}')
            if "/v1b3/" in request.path:
                return self.dataflow.answer(request)
            found = self.console.answer(request) if self.console is not None else None
            return found or self.storage.answer(request)

    def environment(self, folder: Path) -> dict[str, str]:
        """Returns the variables with which a process talks to this server and to nothing else."""
        key = folder / "key.json"
        key.write_text(json.dumps(_key(f"{self.url}/token")))
        return {
            "STORAGE_EMULATOR_HOST": self.url,
            "GOOGLE_APPLICATION_CREDENTIALS": str(key),
            "http_proxy": self.url,
            "no_proxy": "127.0.0.1,localhost",
            "NO_GCE_CHECK": "true",
        }


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def _handle(self) -> None:
        url = urlsplit(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length) if length else b""
        headers = {name.lower(): value for name, value in self.headers.items()}
        answer = self.server.google.answer(Request(self.command, url.path, url.query, headers, body))
        with contextlib.suppress(ConnectionError):  # the client was killed on purpose
            self.send_response(answer.code)
            for name, value in {"Content-Type": "application/json", **answer.headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _handle  # noqa: N815  # the names are the library's

    def log_message(self, *_: object) -> None:
        """Logs no request."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, google: FakeGoogle) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.google = google


@contextlib.contextmanager
def serving() -> Iterator[FakeGoogle]:
    """Serves on a free port of this machine."""
    google = FakeGoogle()
    with _Server(google) as server:
        google.url = google.storage.url = f"http://127.0.0.1:{server.server_port}"
        thread = Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield google
        server.shutdown()
        thread.join()


def _key(token_uri: str) -> dict[str, Any]:
    """Creates the key of a service account that nobody has."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    pem = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return {
        "type": "service_account",
        "project_id": "fake-project",
        "private_key_id": "0",
        "private_key": pem.decode(),
        "client_email": "fake@fake-project.iam.gserviceaccount.com",
        "client_id": "0",
        "token_uri": token_uri,
    }
