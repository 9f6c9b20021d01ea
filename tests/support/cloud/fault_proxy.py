"""A proxy before a storage's server on this machine: answers some requests with errors, changes others."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import RLock, Thread
from urllib.parse import unquote

HOP_BY_HOP = ("connection", "keep-alive", "transfer-encoding")


@dataclass
class ProxyFault:
    """What happens to the next ``times`` requests whose ``METHOD path?query`` matches ``pattern``.

    They are answered with ``code`` and an error named ``name``; where ``code`` is 0 they are passed on after
    ``seconds``, without the headers ``dropped``.
    """

    pattern: str
    code: int = 0
    name: str = "Injected"
    times: int = 1
    seconds: float = 0
    dropped: tuple[str, ...] = ()
    after: int = 0
    seen: int = 0

    def takes(self, line: str) -> bool:
        """Counts a request that matches, and says whether it is one of those."""
        if self.seen >= self.after + self.times or not re.search(self.pattern, line):
            return False
        self.seen += 1
        return self.seen > self.after


@dataclass
class FaultProxy:
    """The faults that are still to come, and every request as ``METHOD path?query``."""

    target: str
    url: str = ""
    faults: list[ProxyFault] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    lock: RLock = field(default_factory=RLock)

    def fault_of(self, line: str) -> ProxyFault | None:
        """Notes a request and returns what is to happen to it."""
        with self.lock:
            self.requests.append(line)
            return next((fault for fault in self.faults if fault.takes(line)), None)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.server.proxy.fault_of(f"{self.command} {unquote(self.path)}")
        with contextlib.suppress(ConnectionError):  # the client was killed on purpose
            if fault is not None and fault.code:
                text = f"<Error><Code>{fault.name}</Code><Message>injected</Message></Error>".encode()
                self._answer(fault.code, [("Content-Type", "application/xml")], text)
                return
            if fault is not None:
                time.sleep(fault.seconds)
            self._pass_on(body, () if fault is None else fault.dropped)

    def _pass_on(self, body: bytes, dropped: tuple[str, ...]) -> None:
        connection = HTTPConnection(self.server.proxy.target, timeout=60)
        try:
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in (*HOP_BY_HOP, *dropped):
                    connection.putheader(name, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            self._answer(answer.status, answer.getheaders(), answer.read())
        finally:
            connection.close()

    def _answer(self, code: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.send_response_only(code)
        is_head = self.command == "HEAD"
        for name, value in headers:
            if name.lower() not in HOP_BY_HOP and (is_head or name.lower() != "content-length"):
                self.send_header(name, value)
        if not is_head:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(b"" if is_head else body)

    do_GET = do_POST = do_PUT = do_HEAD = do_DELETE = _handle  # noqa: N815  # the names are the library's

    def log_message(self, *_: object) -> None:
        """Logs no request."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, proxy: FaultProxy) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.proxy = proxy


@contextlib.contextmanager
def proxied(target: str) -> Iterator[FaultProxy]:
    """Serves on a free port what ``target``, as host:port, answers."""
    proxy = FaultProxy(target)
    with _Server(proxy) as server:
        proxy.url = f"http://127.0.0.1:{server.server_port}"
        thread = Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield proxy
        server.shutdown()
        thread.join()
