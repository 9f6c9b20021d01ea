"""A pool that engines share: no worker ends by another's request, none is left as a zombie."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import grpc
import pytest
from apache_beam.portability.api import beam_fn_api_pb2 as messages
from apache_beam.portability.api import beam_fn_api_pb2_grpc as services
from apache_beam.portability.api.org.apache.beam.model.pipeline.v1 import endpoints_pb2

from beam_jobs.errors import JobError
from beam_jobs.job.worker_processes import WorkerKey, WorkerProcesses
from beam_jobs.worker_pool import open_health, open_server, worker_command
from tests.support.examples import NIGHTLY
from tests.support.runs.jobs import PROJECT

LIGHT = ["/bin/sleep", "600"]
NAMES = ("1-1", "1-2", "1-3")


class Client:
    """An engine with an endpoint of its own, over a channel of its own."""

    def __init__(self, address: str, endpoint: str) -> None:
        self.endpoint = endpoint
        self._channel = grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)])
        self._stub = services.BeamFnExternalWorkerPoolStub(self._channel)

    def start(self, name: str) -> str:
        endpoint = endpoints_pb2.ApiServiceDescriptor(url=self.endpoint)
        request = messages.StartWorkerRequest(worker_id=name, control_endpoint=endpoint)
        return str(self._stub.StartWorker(request, timeout=60).error)

    def stop(self, name: str) -> None:
        self._stub.StopWorker(messages.StopWorkerRequest(worker_id=name), timeout=60)

    def close(self) -> None:
        self._channel.close()


class Pool:
    """A pool in this process whose workers do nothing, with two clients."""

    def __init__(self, command: list[str]) -> None:
        self.said: list[tuple[str, dict[str, Any]]] = []
        self.workers = WorkerProcesses(lambda _: command, lambda *said: self.said.append(said))
        self.server, self.address = open_server(self.workers, 0)
        self.clients = [Client(self.address, f"localhost:{port}") for port in (1, 2)]

    def alive(self, client: Client, name: str) -> int | None:
        return self.workers.running().get(WorkerKey(name, client.endpoint))


@contextlib.contextmanager
def serving(command: list[str]) -> Iterator[Pool]:
    pool = Pool(command)
    try:
        yield pool
    finally:
        for client in pool.clients:
            client.close()
        pool.workers.stop_all()
        pool.server.stop(grace=None).wait()


@pytest.fixture
def pool() -> Iterator[Pool]:
    with serving(LIGHT) as pool:
        yield pool


def zombies() -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, parent = path.read_text().rpartition(") ")[2].split()[:2]
            if state == "Z" and parent == str(os.getpid()):
                found.append(path.parent.name)
    return found


def wait_for(condition: Callable[[], bool]) -> None:
    while not condition():
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("seed", range(20) if os.environ.get(NIGHTLY) else [1, 2])
def test_a_thousand_requests_of_two_clients_in_any_order_end_no_foreign_worker(pool: Pool, seed: int) -> None:
    chance = random.Random(seed)
    for client in pool.clients:  # both have used these names; each has one of its own, which a stop ends
        for name in NAMES:
            assert client.start(name) == ""

    def schedule(seed: int, client: Client, other: Client) -> None:
        own = random.Random(seed)
        for _ in range(500):
            name = own.choice((*NAMES, client.endpoint))
            shared = {name: pool.alive(other, name) for name in NAMES}
            if own.random() < 0.5:
                client.start(name)
            else:
                client.stop(name)
            is_gone = name == client.endpoint and pool.alive(client, name) is None
            ends.append(is_gone)
            failures.extend(name for name, pid in shared.items() if pid is None or not is_alive(pid))

    failures: list[str] = []
    ends: list[bool] = []
    first, second = pool.clients
    seeds = chance.sample(range(1000), 2)
    threads = [
        Thread(target=schedule, args=(seeds[0], first, second)),
        Thread(target=schedule, args=(seeds[1], second, first)),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(ends) == 1000
    assert any(ends)
    pids = list(pool.workers.running().values())
    pool.workers.stop_all()
    assert not any(is_alive(pid) for pid in pids)
    assert zombies() == []


def test_workers_of_one_client_come_and_go(pool: Pool) -> None:
    client = pool.clients[0]
    seen = set()
    for i in range(100):
        name = NAMES[i % 2]
        client.start(name)
        pid = pool.alive(client, name)
        assert pid is not None
        assert pid not in seen
        seen.add(pid)
        client.start(name)  # the request came twice
        assert pool.alive(client, name) == pid
        client.stop(name)
        assert not is_alive(pid)
        client.start(name)  # at once after its end
        assert pool.alive(client, name) not in (None, pid)
        client.stop(name)
    assert zombies() == []


def test_a_worker_that_died_is_reaped_and_its_stop_ends_no_other(pool: Pool) -> None:
    first, second = pool.clients
    first.start("1-1")
    second.start("1-1")
    pid, foreign = pool.alive(first, "1-1"), pool.alive(second, "1-1")
    assert pid is not None
    assert foreign is not None
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: pool.alive(first, "1-1") is None)
    first.stop("1-1")
    assert is_alive(foreign)
    assert zombies() == []
    ended = [facts for _, facts in pool.said if "exit_code" in facts]
    expected = {"worker_id": "1-1", "control_endpoint": first.endpoint, "pid": pid, "exit_code": -9}
    assert ended == [expected]


def test_what_a_worker_prints_is_read_and_its_own() -> None:
    with serving(["/bin/sh", "-c", "seq 20000; echo broken >&2; exit 3"]) as pool:
        pool.clients[0].start("1-1")
        wait_for(lambda: "broken" in [message for message, _ in pool.said])
    lines = [m for m, facts in pool.said if facts["worker_id"] == "1-1" and m.isdigit()]
    assert lines == [str(i) for i in range(1, 20001)]


def test_a_worker_that_ignores_sigterm_is_killed() -> None:
    stubborn = [
        sys.executable,
        "-Sc",
        "import signal,time; signal.signal(15, 1); print(1, flush=True); time.sleep(9e3)",
    ]
    said: list[str] = []
    workers = WorkerProcesses(lambda _: stubborn, lambda message, _: said.append(message), grace_seconds=0.1)
    workers.start(WorkerKey("1-1", "here"))
    wait_for(lambda: "1" in said)
    (pid,) = workers.running().values()
    assert workers.stop("1-1")
    assert not is_alive(pid)


def test_a_worker_that_cannot_be_started_is_an_error_of_the_request() -> None:
    with serving(["/no/such/program"]) as pool:
        assert "/no/such/program" in pool.clients[0].start("1-1")
        assert pool.workers.running() == {}


def test_a_pool_that_stops_starts_nothing(pool: Pool) -> None:
    pool.workers.stop_all()
    assert "being stopped" in pool.clients[0].start("1-1")


def test_a_taken_port_is_an_error(pool: Pool) -> None:
    port = int(pool.address.rpartition(":")[2])
    with pytest.raises(JobError, match=f"--service_port {port}"):
        open_server(pool.workers, port)


@contextlib.contextmanager
def health_of(pool: Pool) -> Iterator[Callable[[str], tuple[int, dict[str, Any]]]]:
    """A function that asks a pool's health endpoint for a path."""
    server = open_health(pool.workers, 0, pool.address)

    def ask(path: str) -> tuple[int, dict[str, Any]]:
        try:
            with urllib.request.urlopen(f"http://localhost:{server.server_address[1]}{path}") as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                text = error.read()
                return error.code, json.loads(text) if text.startswith(b"{") else {}

    try:
        yield ask
    finally:
        server.shutdown()
        server.server_close()


def test_health_lists_the_workers_and_tells_pools_apart(pool: Pool) -> None:
    pool.clients[0].start("1-1")
    with serving(LIGHT) as other, health_of(pool) as ask, health_of(other) as ask_other:
        status, said = ask("/health")
        (worker,) = said["workers"]
        assert (status, said["status"], said["address"]) == (200, "serving", pool.address)
        assert (worker["worker_id"], worker["control_endpoint"]) == ("1-1", pool.clients[0].endpoint)
        other_said = {"status": "serving", "address": other.address, "pid": os.getpid(), "workers": []}
        assert ask_other("/health") == (200, other_said)
        assert ask("/")[0] == 404


def test_a_pool_that_stops_is_not_ready_while_its_workers_end() -> None:
    with serving(LIGHT) as pool, health_of(pool) as ask:
        pool.clients[0].start("1-1")
        (pid,) = pool.workers.running().values()
        os.kill(pid, signal.SIGSTOP)  # SIGTERM waits until it is continued
        assert ask("/health")[0] == 200
        stopping = Thread(target=pool.workers.stop_all)
        stopping.start()
        wait_for(lambda: pool.workers.is_stopping)
        status, said = ask("/health")
        assert (status, said["status"]) == (503, "stopping")
        assert [worker["pid"] for worker in said["workers"]] == [pid]
        os.kill(pid, signal.SIGCONT)
        stopping.join()
        assert ask("/health")[0] == 503


def test_a_taken_health_port_is_an_error(pool: Pool) -> None:
    port = int(pool.address.rpartition(":")[2])
    with pytest.raises(JobError, match=f"--health_port {port}"):
        open_health(pool.workers, port, pool.address)


def test_names_and_endpoints_reach_a_worker_as_data() -> None:
    hostile = WorkerKey("1'); print('", 'host:1"')
    assert worker_command(hostile)[-2:] == [hostile.endpoint, hostile.name]
    assert hostile.name not in worker_command(hostile)[2]


def test_sigterm_ends_the_command_and_its_worker(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "beam_jobs.worker_pool", "--service_port", "0", "--log_format", "json"]
    log = tmp_path / "log"
    with (
        log.open("wb") as stream,
        subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, stderr=stream, text=True) as process,
    ):
        assert process.stdout is not None
        address = process.stdout.readline().removeprefix("worker pool at ").strip()
        client = Client(address, "localhost:1")
        assert client.start("1-1") == ""
        client.close()
        process.terminate()
        assert process.wait(60) == 143
    said = [json.loads(line) for line in log.read_text().splitlines()]
    (started,) = [line["pid"] for line in said if line["message"].endswith("started")]
    (ended,) = [line["pid"] for line in said if "exit_code" in line]
    assert started == ended
    assert {line["pool_pid"] for line in said if "pid" in line} == {process.pid}
    assert not is_alive(started)
    assert said[-1]["event"] == "stopped"
