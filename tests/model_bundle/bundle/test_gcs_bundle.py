"""Bundles on Google Cloud Storage, against a storage of our own on this machine."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote, urlsplit

import pytest

from model_bundle.bundle.bundle import ModelBundle
from model_bundle.bundle.manifest import MANIFEST_NAME, BundleManifest
from model_bundle.bundle.specs import FileSpec
from model_bundle.errors import BundleFormatError, BundleIntegrityError, SourceError


class Storage(ThreadingHTTPServer):
    """Objects by bucket and name, and the names that were read."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), StorageHandler)
        self.objects: dict[str, bytes] = {}
        self.read: list[str] = []

    def put_bundle(self, bundle: Path, prefix: str) -> None:
        for path in bundle.rglob("*"):
            if path.is_file():
                self.objects[f"{prefix}/{path.relative_to(bundle).as_posix()}"] = path.read_bytes()


class StorageHandler(BaseHTTPRequestHandler):
    """The JSON interface, as far as reading an object needs it."""

    server: Storage

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        _, _, rest = url.path.partition("/b/")
        bucket, _, name = rest.partition("/o/")
        key = f"{bucket}/{unquote(name)}"
        data = self.server.objects.get(key)
        if data is None:
            self._send(
                404, json.dumps({"error": {"code": 404, "message": f"No such object: {key}"}}).encode(), ""
            )
        elif "alt=media" in url.query:
            self.server.read.append(key)
            self._send(200, data, base64.b64encode(hashlib.md5(data).digest()).decode())
        else:
            content = {"name": unquote(name), "bucket": bucket, "size": str(len(data)), "generation": "1"}
            self._send(200, json.dumps(content).encode(), "")

    def _send(self, code: int, data: bytes, md5: str) -> None:
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        if md5:
            self.send_header("X-Goog-Hash", f"md5={md5}")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Logs no request."""


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Storage]:
    with Storage() as server:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("BEAM_JOBS_CACHE", str(tmp_path / "cache"))
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_bundle_is_copied_once_and_found_by_its_digest(
    storage: Storage, build_tiny: Callable[[str], ModelBundle], tmp_path: Path
) -> None:
    built = build_tiny("tiny_bert")
    storage.put_bundle(built.path, "models/some/where")
    opened = ModelBundle.open(f"gs://models/some/where/@sha256:{built.digest}")
    assert (opened.digest, opened.path) == (built.digest, tmp_path / "cache" / "gcs" / built.digest)
    assert len(storage.read) == 1 + len(built.manifest.files)
    storage.read.clear()
    assert ModelBundle.open("gs://models/some/where").digest == built.digest
    assert storage.read == [f"models/some/where/{MANIFEST_NAME}"]


def test_another_bundle_under_the_same_url_is_another_copy(
    storage: Storage, build_tiny: Callable[[str], ModelBundle]
) -> None:
    for model in ("tiny_bert", "tiny_distilbert"):
        storage.objects.clear()
        storage.put_bundle(build_tiny(model).path, "bucket")
        assert ModelBundle.open("gs://bucket").digest == build_tiny(model).digest


def test_a_changed_or_missing_file_is_noticed_and_nothing_kept(
    storage: Storage, build_tiny: Callable[[str], ModelBundle], tmp_path: Path
) -> None:
    storage.put_bundle(build_tiny("tiny_bert").path, "bucket/b")
    whole = storage.objects["bucket/b/LICENSE"]
    storage.objects["bucket/b/LICENSE"] = whole[:-1] + b"!"
    with pytest.raises(BundleIntegrityError, match="changed: LICENSE"):
        ModelBundle.open("gs://bucket/b")
    storage.objects["bucket/b/LICENSE"] = whole + b"!"
    storage.read.clear()
    with pytest.raises(BundleIntegrityError, match=r"LICENSE has \d+ bytes, listed \d+. Nothing was copied"):
        ModelBundle.open("gs://bucket/b")
    assert storage.read == [f"bucket/b/{MANIFEST_NAME}"]
    del storage.objects["bucket/b/LICENSE"]
    with pytest.raises(BundleFormatError, match="an incomplete one"):
        ModelBundle.open("gs://bucket/b")
    assert list((tmp_path / "cache" / "gcs").iterdir()) == []
    storage.objects["bucket/b/LICENSE"] = whole
    assert ModelBundle.open("gs://bucket/b").manifest.name == "tiny_bert"


@pytest.mark.parametrize("path", ["../outside", "/etc/outside", "a/../../outside", "..\\outside"])
def test_a_path_out_of_the_bundle_is_refused_before_anything_is_written(
    path: str, storage: Storage, build_tiny: Callable[[str], ModelBundle], tmp_path: Path
) -> None:
    manifest = build_tiny("tiny_bert").manifest
    outside = FileSpec(path=path, size=1, sha256=hashlib.sha256(b"x").hexdigest())
    evil: BundleManifest = manifest.model_copy(update={"files": (outside,)})
    storage.objects["bucket/bundle.json"] = evil.to_bytes()
    storage.objects[f"bucket/{path}"] = b"x"
    with pytest.raises(BundleIntegrityError, match="outside the bundle"):
        ModelBundle.open("gs://bucket")
    assert not any(path.name.endswith("outside") for path in tmp_path.rglob("*"))


def test_no_bundle_no_bucket_and_no_storage_are_told_apart(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BundleFormatError, match="is not a model bundle, or an incomplete one"):
        ModelBundle.open("gs://bucket/nothing")
    with pytest.raises(BundleFormatError, match="names no bucket"):
        ModelBundle.open("gs:///nothing")
    storage.objects["bucket/bundle.json"] = b"{"
    with pytest.raises(BundleFormatError, match="is not JSON"):
        ModelBundle.open("gs://bucket")
    monkeypatch.delenv("STORAGE_EMULATOR_HOST")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/no/such/file.json")
    with pytest.raises(SourceError, match="gcloud auth application-default login"):
        ModelBundle.open("gs://bucket")
