"""A model named by its identifier on the Hub, against a hub of our own on this machine."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from tests.support.models.bert_formats import TINY_BERT

ROOT = Path(__file__).parents[4]
COMMIT = "c0ffee" * 6 + "beef"
FETCH = """
import sys
from model_bundle.builders.bert.huggingface_hub import fetch_source
from model_bundle.errors import SourceError
try:
    found = fetch_source(sys.argv[1], None)
except SourceError as error:
    sys.exit(str(error))
print(found.location, found.revision)
print(*sorted(path.relative_to(found.path) for path in found.path.rglob('*') if path.is_file()))
"""


class Hub(ThreadingHTTPServer):
    """Serves one model, pickles and other formats included, and notes what was asked for."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), HubHandler)
        self.files = {path.name: path.read_bytes() for path in TINY_BERT.iterdir()}
        self.files |= {"pytorch_model.bin": b"a pickle", "tf_model.h5": b"surplus", "onnx/config.json": b"{}"}
        self.files |= {"2_Dense/model.safetensors": b"dense", "2_Dense/pytorch_model.bin": b"a pickle"}
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class HubHandler(BaseHTTPRequestHandler):
    """The three requests of a download: the commit, the list of files, a file."""

    server: Hub

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        if path.startswith("/api/models/owner/tiny/tree/"):
            return self._json([self._entry(name) for name in self.server.files])
        if path.startswith("/api/models/owner/tiny") and not path.endswith("/absent"):
            names = [{"rfilename": name} for name in self.server.files]
            return self._json({"id": "owner/tiny", "sha": COMMIT, "siblings": names})
        name = path.partition(f"/resolve/{COMMIT}/")[2]
        if path.startswith("/owner/tiny/") and name in self.server.files:
            return self._file(name)
        code = "RevisionNotFound" if "/owner/tiny" in path else "RepoNotFound"
        self.send_response(404)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()
        return None

    def do_HEAD(self) -> None:
        self.do_GET()

    def _entry(self, name: str) -> dict[str, object]:
        data = self.server.files[name]
        return {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}

    def _json(self, content: object) -> None:
        self._send(json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _file(self, name: str) -> None:
        data = self.server.files[name]
        if self.command == "GET":
            self.server.asked.append(name)
        self._send(data, {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', "X-Repo-Commit": COMMIT})

    def _send(self, data: bytes, headers: dict[str, str]) -> None:
        self.send_response(200)
        for key, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Logs no request."""


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def fetch_from(url: str, home: Path, name: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "HF_ENDPOINT": url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
    environment |= {"PYTHONPATH": str(ROOT), "HF_HUB_DISABLE_TELEMETRY": "1"}
    command = [sys.executable, "-c", FETCH, name]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def test_a_model_is_fetched_once_without_pickles_and_its_commit_recorded(hub: Hub, tmp_path: Path) -> None:
    done = fetch_from(hub.url, tmp_path, "owner/tiny")
    assert done.returncode == 0, done.stderr
    first, files = done.stdout.strip().split("\n")
    assert first == f"owner/tiny {COMMIT}"
    wanted = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "vocab.txt"}
    assert set(files.split()) == set(hub.asked) == wanted | {"2_Dense/model.safetensors"}
    # Without network the cache serves it.
    hub.asked.clear()
    again = fetch_from("http://127.0.0.1:9", tmp_path, "owner/tiny")
    assert (again.returncode, again.stdout) == (0, done.stdout), again.stderr
    assert hub.asked == []


def test_an_unknown_model_and_no_network_say_what_to_do(hub: Hub, tmp_path: Path) -> None:
    unknown = fetch_from(hub.url, tmp_path, "owner/other")
    assert unknown.returncode == 1
    assert "owner/other is not a folder, and downloading it" in unknown.stderr
    offline = fetch_from("http://127.0.0.1:9", tmp_path, "owner/tiny")
    assert offline.returncode == 1
    assert "hf download owner/tiny --local-dir DIR" in offline.stderr
    assert "Traceback" not in unknown.stderr + offline.stderr
