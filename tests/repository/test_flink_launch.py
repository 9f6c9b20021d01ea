"""The Kubernetes example has only fields that the operator knows, and flags that the pool knows."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from beam_jobs.worker_pool import worker_pool_parser
from tests.support.runs.jobs import PROJECT

FLINK = PROJECT / "launch" / "flink"
RESOURCE = {"memory": str, "cpu": (int, float), "ephemeralStorage": str}
PROBE = {
    "httpGet": {"path": str, "port": (int, str), "scheme": str},
    "tcpSocket": {"port": (int, str)},
    **dict.fromkeys(("periodSeconds", "initialDelaySeconds", "timeoutSeconds", "failureThreshold"), int),
}
CONTAINER = {
    "name": str,
    "image": str,
    "command": [str],
    "args": [str],
    "ports": [{"containerPort": int, "name": str}],
    "env": [{"name": str, "value": str}],
    "readinessProbe": PROBE,
    "livenessProbe": PROBE,
    "resources": {"requests": {str: (int, str)}, "limits": {str: (int, str)}},
}
POD = {
    "apiVersion": str,
    "kind": str,
    "metadata": {"name": str, "labels": {str: str}},
    "spec": {"containers": [CONTAINER], "terminationGracePeriodSeconds": int},
}
# Fields and types of the operator's resource definition, v1beta1; of pods, those that matter here.
DEPLOYMENT = {
    "apiVersion": {"flink.apache.org/v1beta1"},
    "kind": {"FlinkDeployment"},
    "metadata": {"name": str, "namespace": str},
    "spec": {
        "image": str,
        "imagePullPolicy": str,
        "flinkVersion": {f"v1_{minor}" for minor in range(13, 21)},
        "flinkConfiguration": {str: str},
        "logConfiguration": {str: str},
        "mode": {"native", "standalone"},
        "restartNonce": int,
        "serviceAccount": str,
        "podTemplate": POD,
        "jobManager": {"replicas": int, "resource": RESOURCE, "podTemplate": POD},
        "taskManager": {"replicas": int, "resource": RESOURCE, "podTemplate": POD},
    },
}


def faults(found: Any, schema: Any, where: str = "") -> list[str]:
    """Returns what a schema does not know: types, sets of values, lists and fields, as above."""
    if isinstance(schema, set):
        return [] if found in schema else [f"{where}: {found!r} is none of {sorted(schema)}"]
    if isinstance(schema, list):
        if not isinstance(found, list):
            return [f"{where}: not a list"]
        return [fault for i, item in enumerate(found) for fault in faults(item, schema[0], f"{where}[{i}]")]
    if isinstance(schema, dict):
        if not isinstance(found, dict):
            return [f"{where}: not a mapping"]
        any_name = schema.get(str)
        unknown = [f"{where}.{name}: unknown" for name in found if any_name is None and name not in schema]
        known = [
            fault
            for name, value in found.items()
            if any_name is not None or name in schema
            for fault in faults(value, any_name or schema[name], f"{where}.{name}")
        ]
        return unknown + known
    is_right = isinstance(found, schema) and not isinstance(found, bool)
    return [] if is_right else [f"{where}: {found!r} is not of {schema}"]


def test_the_kubernetes_example_is_the_operators() -> None:
    example = yaml.safe_load((FLINK / "kubernetes.yaml").read_text(encoding="utf-8"))
    assert faults(example, DEPLOYMENT) == []
    containers = example["spec"]["taskManager"]["podTemplate"]["spec"]["containers"]
    assert [container["name"] for container in containers] == ["flink-main-container", "worker-pool"]
    flags = worker_pool_parser().parse_args(containers[1]["args"])
    ports = [port["containerPort"] for port in containers[1]["ports"]]
    assert ports == [flags.service_port, flags.health_port]
    assert containers[1]["readinessProbe"]["httpGet"]["port"] == flags.health_port


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("spec.flinkVersion", "1.20"),
        ("spec.taskManagers", {}),
        ("spec.flinkConfiguration", {"taskmanager.numberOfTaskSlots": 2}),
        ("spec.taskManager", {"resource": {"memory": 1728}}),
    ],
)
def test_a_slip_in_it_would_be_found(path: str, value: Any) -> None:
    example = yaml.safe_load((FLINK / "kubernetes.yaml").read_text(encoding="utf-8"))
    example["spec"][path.removeprefix("spec.")] = value
    assert [fault for fault in faults(example, DEPLOYMENT) if path in fault]


def test_the_script_of_the_cluster_says_how_it_is_used() -> None:
    done = subprocess.run([FLINK / "cluster.sh"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "cluster.sh start [JAR]" in done.stderr


@pytest.mark.slow
def test_the_script_says_when_its_pool_has_no_port(tmp_path: Path) -> None:
    (tmp_path / "apache_flink_libraries-1.20.5/deps/lib").mkdir(parents=True)
    java = tmp_path / "java"
    java.write_text("#!/bin/sh\nexec sleep 100\n", encoding="utf-8")
    java.chmod(0o755)
    with socket.create_server(("", 0)) as taken:
        changed = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "FLINK_FOLDER": str(tmp_path)}
        changed |= {"POOL_PORT": str(taken.getsockname()[1]), "PYTHON": sys.executable}
        environment = os.environ | changed
        try:
            command = [FLINK / "cluster.sh", "start"]
            done = subprocess.run(
                command, env=environment, cwd=FLINK.parents[1], capture_output=True, text=True, check=False
            )
        finally:
            subprocess.run([FLINK / "cluster.sh", "stop"], env=environment, check=True)
    assert done.returncode == 1
    assert "POOL_PORT chooses another port" in done.stderr
    assert "is a pool there already?" in done.stderr
