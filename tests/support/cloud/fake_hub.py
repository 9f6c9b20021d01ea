"""A web server of files, and the Hugging Face Hub's interface over the same: one dataset, ``owner/name``."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

COMMIT = "c0ffee" + "0" * 34


class FakeHub(ThreadingHTTPServer):
    """Files by path; ``gives_parts`` as most servers do; the next ``busy`` are 503; all have ``tag``."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.gives_parts, self.busy, self.refused = True, 0, False
        self.requests: list[str] = []
        self.tag = '"e"'
        self.url = f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FakeHub

    def _handle(self) -> None:
        url = urlsplit(self.path)
        path = unquote(url.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.requests.append(f"{self.command} {path}")
        if self.server.busy:
            self.server.busy -= 1
            self._send(503, b"busy")
        elif self.server.refused:
            self._send(403, b"not yours")
        elif path.startswith("/api/datasets/owner/name"):
            is_deep = parse_qs(url.query).get("recursive", ["false"])[0].lower() == "true"
            self._describe(path.removeprefix("/api/datasets/owner/name"), body, is_deep=is_deep)
        else:
            prefix = "/datasets/owner/name/resolve/"
            name = path.removeprefix(prefix).partition("/")[2] if path.startswith(prefix) else path[1:]
            self._send_file(self.server.files.get(name))

    def _describe(self, path: str, body: bytes, *, is_deep: bool) -> None:
        if path.startswith("/paths-info"):
            asked = parse_qs(body.decode()).get("paths") or json.loads(body)["paths"]
            self._send_json([self._entry(name) for name in asked if name in self.server.files])
        elif path.startswith("/tree"):
            folder = path.removeprefix("/tree/").partition("/")[2]
            prefix = f"{folder}/" if folder else ""
            below = [n.removeprefix(prefix) for n in sorted(self.server.files) if n.startswith(prefix)]
            files = [self._entry(prefix + name) for name in below if is_deep or "/" not in name]
            parts = [name.split("/")[:-1] for name in below]
            depths = [(names, depth) for names in parts for depth in range(1, len(names) + 1)]
            folders = {prefix + "/".join(names[:depth]) for names, depth in depths if is_deep or depth == 1}
            made = [{"type": "directory", "path": name, "size": 0, "oid": "0" * 40} for name in folders]
            self._send_json(files + made)
        else:
            self._send_json({"id": "owner/name", "sha": COMMIT, "private": False, "tags": []})

    def _entry(self, name: str) -> dict[str, Any]:
        return {"type": "file", "path": name, "size": len(self.server.files[name]), "oid": "0" * 40}

    def _send_file(self, data: bytes | None) -> None:
        span = self.headers.get("Range")
        if data is None:
            self._send(404, b"none")
        elif span is None or not self.server.gives_parts:
            self._send(200, data)
        else:
            first, _, last = span.removeprefix("bytes=").partition("-")
            part = data[int(first) : int(last) + 1 if last else None]
            self._send(
                206, part, {"Content-Range": f"bytes {first}-{int(first) + len(part) - 1}/{len(data)}"}
            )

    def _send_json(self, content: Any) -> None:
        self._send(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _send(self, code: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        with contextlib.suppress(ConnectionError):  # the client has what it wanted
            self.send_response(code)
            own = {"X-Repo-Commit": COMMIT, "ETag": self.server.tag, "Content-Length": str(len(body))}
            for name, value in (own | (headers or {})).items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

    do_GET = do_HEAD = do_POST = _handle  # noqa: N815  # the names are the library's

    def log_message(self, *_: object) -> None:
        """Logs no request."""


@contextlib.contextmanager
def serving_hub() -> Iterator[FakeHub]:
    """Serves on a free port of this machine."""
    with FakeHub() as server:
        thread = Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()
