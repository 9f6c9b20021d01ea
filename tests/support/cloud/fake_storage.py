"""Google Cloud Storage's JSON interface over objects in memory, as far as this project and Beam use it."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, quote, unquote

import google_crc32c


@dataclass(frozen=True)
class Request:
    """A request as it came: ``headers`` by lower-case name."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes

    @property
    def flags(self) -> dict[str, str]:
        """The query's parameters, the first of each name."""
        return {name: values[0] for name, values in parse_qs(self.query).items()}


@dataclass(frozen=True)
class Answer:
    """What is sent back; the content is JSON unless headers say otherwise."""

    code: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


def failure(code: int, message: str) -> Answer:
    """Words an error as the service does."""
    return Answer(code, json.dumps({"error": {"code": code, "message": message}}).encode())


class FakeStorage:
    """Objects by ``bucket/name``, with generations, preconditions, ranges, resumable uploads and batches."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.generations: dict[str, int] = {}
        self.url = ""
        self._uploads: dict[str, tuple[str, str, bytearray]] = {}
        self._clock = 0

    def put(self, key: str, data: bytes) -> None:
        """Writes an object."""
        self._clock += 1
        self.objects[key], self.generations[key] = data, self._clock

    def answer(self, request: Request) -> Answer:
        """Answers one request."""
        path = request.path
        if path.startswith("/batch"):
            return self._batch(request)
        if path.startswith("/upload"):
            return self._upload(request)
        bucket, _, rest = path.partition("/b/")[2].partition("/o")
        if not rest.strip("/"):
            return self._bucket(request, unquote(bucket), is_listing=path.endswith("/o"))
        for verb in ("/copyTo/b/", "/rewriteTo/b/"):
            if verb in rest:
                return self._copy(unquote(bucket), rest, verb)
        return self._object(request, f"{unquote(bucket)}/{unquote(rest[1:])}")

    def _bucket(self, request: Request, bucket: str, *, is_listing: bool) -> Answer:
        if not is_listing:
            return _json(
                {
                    "name": bucket,
                    "kind": "storage#bucket",
                    "location": "US",
                    "softDeletePolicy": {"retentionDurationSeconds": "0"},
                }
            )
        prefix = f"{bucket}/{request.flags.get('prefix', '')}"
        keys = [key for key in sorted(self.objects) if key.startswith(prefix)]
        return _json({"kind": "storage#objects", "items": [self._describe(key) for key in keys]})

    def _object(self, request: Request, key: str) -> Answer:
        if key not in self.objects:
            return failure(404, f"No such object: {key}")
        wanted = request.flags.get("ifGenerationMatch")
        if wanted is not None and int(wanted) != self.generations[key]:
            return failure(412, "conditionNotMet")
        if request.method == "DELETE":
            del self.objects[key]
            return Answer(204)
        if request.flags.get("alt") == "media":
            return self._content(request, key)
        return _json(self._describe(key))

    def _content(self, request: Request, key: str) -> Answer:
        data = self.objects[key]
        headers = {
            "Content-Type": "application/octet-stream",
            "X-Goog-Hash": f"crc32c={_crc32c(data)},md5={_md5(data)}",
            "X-Goog-Generation": str(self.generations[key]),
        }
        if "range" not in request.headers:
            return Answer(200, data, headers)
        first, _, last = request.headers["range"].removeprefix("bytes=").partition("-")
        if int(first) >= len(data):
            return failure(416, "range not satisfiable")
        part = data[int(first) : int(last) + 1 if last else None]
        headers["Content-Range"] = f"bytes {first}-{int(first) + len(part) - 1}/{len(data)}"
        return Answer(206, part, headers)

    def _copy(self, bucket: str, rest: str, verb: str) -> Answer:
        name, _, target = rest[1:].partition(verb)
        source = f"{bucket}/{unquote(name)}"
        other, _, other_name = target.partition("/o/")
        if source not in self.objects:
            return failure(404, f"No such object: {source}")
        key = f"{unquote(other)}/{unquote(other_name)}"
        self.put(key, self.objects[source])
        description = self._describe(key)
        return _json({"done": True, "resource": description} if "rewrite" in verb else description)

    def _upload(self, request: Request) -> Answer:
        flags = request.flags
        if request.method == "PUT":
            return self._resumed(request, flags["upload_id"])
        bucket = unquote(request.path.partition("/b/")[2].partition("/o")[0])
        if flags["uploadType"] == "multipart":
            described, data = _multipart(request)
            return self._created(f"{bucket}/{flags.get('name') or described['name']}", data, flags)
        key = f"{bucket}/{flags.get('name') or json.loads(request.body)['name']}"
        upload_id = str(len(self._uploads))
        self._uploads[upload_id] = (key, flags.get("ifGenerationMatch", ""), bytearray())
        place = f"{self.url}{request.path}?uploadType=resumable&upload_id={upload_id}"
        return Answer(200, b"", {"Location": place})

    def _resumed(self, request: Request, upload_id: str) -> Answer:
        key, condition, data = self._uploads[upload_id]
        span, _, total = request.headers["content-range"].removeprefix("bytes ").partition("/")
        if span != "*":
            del data[int(span.partition("-")[0]) :]
            data += request.body
        if total == "*" or len(data) < int(total):
            return Answer(308, b"", {"Range": f"bytes=0-{len(data) - 1}"} if data else {})
        return self._created(key, bytes(data), {"ifGenerationMatch": condition} if condition else {})

    def _created(self, key: str, data: bytes, flags: dict[str, str]) -> Answer:
        wanted = flags.get("ifGenerationMatch")
        found = self.generations[key] if key in self.objects else 0
        if wanted is not None and int(wanted) != found:
            return failure(412, "conditionNotMet")
        self.put(key, data)
        return _json(self._describe(key))

    def _batch(self, request: Request) -> Answer:
        boundary = _boundary(request)
        parts = []
        for number, part in enumerate(request.body.split(b"--" + boundary)[1:-1]):
            inner = part.replace(b"\r\n", b"\n").split(b"\n\n", 1)[1].strip()
            line = inner.split(b"\n", 1)[0].decode().split()
            path, _, query = line[1].partition("/storage/")[2].partition("?")
            answer = self.answer(Request(line[0], f"/storage/{path}", query, {}, b""))
            head = f"--answers\r\nContent-Type: application/http\r\nContent-ID: <response-{number}>\r\n\r\n"
            status = f"HTTP/1.1 {answer.code} X\r\nContent-Type: application/json\r\n"
            size = f"Content-Length: {len(answer.body)}\r\n\r\n"
            parts.append(f"{head}{status}{size}".encode() + answer.body + b"\r\n")
        body = b"".join(parts) + b"--answers--\r\n"
        return Answer(200, body, {"Content-Type": 'multipart/mixed; boundary="answers"'})

    def _describe(self, key: str) -> dict[str, Any]:
        bucket, _, name = key.partition("/")
        link = f"{self.url}/download/storage/v1/b/{bucket}/o/{quote(name, safe='')}?alt=media"
        return {
            "kind": "storage#object",
            "name": name,
            "bucket": bucket,
            "size": str(len(self.objects[key])),
            "generation": str(self.generations[key]),
            "md5Hash": _md5(self.objects[key]),
            "crc32c": _crc32c(self.objects[key]),
            "mediaLink": link,
            "updated": "2026-01-01T00:00:00.000Z",
            "timeCreated": "2026-01-01T00:00:00.000Z",
        }


def _json(content: Any) -> Answer:
    return Answer(200, json.dumps(content).encode())


def _md5(data: bytes) -> str:
    return base64.b64encode(hashlib.md5(data).digest()).decode()


def _crc32c(data: bytes) -> str:
    return base64.b64encode(google_crc32c.value(data).to_bytes(4, "big")).decode()


def _boundary(request: Request) -> bytes:
    return request.headers["content-type"].partition("boundary=")[2].strip("\"'").encode()


def _multipart(request: Request) -> tuple[dict[str, Any], bytes]:
    parts = request.body.split(b"--" + _boundary(request))
    described = json.loads(parts[1].partition(b"\r\n\r\n")[2])
    return described, parts[2].partition(b"\r\n\r\n")[2].removesuffix(b"\r\n")
