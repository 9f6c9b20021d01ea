"""Small nights: one container, as a Cloud Run job or a CronJob, and the commands that set them up."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from string import Template
from typing import Any

import pytest
import yaml

from beam_jobs.job.flags.parsers import embed_parser
from beam_jobs.job.launch import launch_job
from tests.support.cloud.api_descriptions import description, faults
from tests.support.cloud.kubernetes import cronjob_faults
from tests.support.cloud.launch import LAUNCH, modules, write_settings
from tests.support.runs.jobs import capture, write_texts


def _container(name: str, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Reads a file as envsubst writes it: all of it, and its one container."""
    with modules("settings") as (module,):
        values = module.read_settings(write_settings(folder)).values
    text = (LAUNCH / name).read_text(encoding="utf-8")
    found = yaml.safe_load(Template(text).substitute(values))
    spec = found["spec"].get("jobTemplate", found)["spec"]["template"]["spec"]
    (container,) = spec.get("template", {}).get("spec", spec)["containers"]
    return found, container


@pytest.mark.parametrize("name", ["cloud-run-job.yaml", "cronjob.yaml"])
def test_a_container_starts_what_the_job_understands(tmp_path: Path, name: str) -> None:
    _, container = _container(name, tmp_path)
    flags, rest = embed_parser().parse_known_args(container["args"])
    assert (rest, flags.runner, flags.run_id) == ([], "DirectRunner", "night-{date}")
    assert container["command"] == ["python", "/app/main.py"]
    assert "@sha256:" in container["image"]


def test_the_cloud_run_job_is_what_cloud_run_describes(tmp_path: Path) -> None:
    job, container = _container("cloud-run-job.yaml", tmp_path)
    assert not faults("run.v1", "Job", job)
    container["arg"] = []
    assert faults("run.v1", "Job", job)


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (("spec", "schedul"), "30 2 * * *", "$.spec.schedul: unknown"),
        (("spec", "startingDeadlineSeconds"), "an hour", "$.spec.startingDeadlineSeconds: 'an hour' is no"),
        (("spec", "jobTemplate", "spec", "backoffLimit"), True, "backoffLimit: True is no integer"),
        (("metadata", "labels", "job"), 3, "$.metadata.labels.job: 3 is no string"),
        (("kind",), "Cronjob", "$.kind: 'Cronjob' is none of"),
    ],
)
def test_the_schema_finds_what_kubernetes_refuses(
    tmp_path: Path, place: tuple[str, ...], value: Any, said: str
) -> None:
    job, _ = _container("cronjob.yaml", tmp_path)
    inner = job
    for name in place[:-1]:
        inner = inner[name]
    inner[place[-1]] = value
    (fault,) = cronjob_faults(job)
    assert said in fault


def test_the_cronjob_is_what_kubernetes_describes(tmp_path: Path) -> None:
    job, container = _container("cronjob.yaml", tmp_path)
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "CronJob")
    assert not cronjob_faults(job)
    assert job["spec"]["concurrencyPolicy"] == "Forbid"  # as the fixed job name on Dataflow
    assert job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["restartPolicy"] == "Never"
    container["arg"] = []
    del container["name"]
    assert [fault.partition("containers[0].")[2] for fault in cronjob_faults(job)] == [
        "name: missing",
        "arg: unknown",
    ]


_STUB = """#!/bin/sh
printf '%s' "$(basename "$0")" >> calls
for word in "$@"; do printf '\\t%s' "$word" >> calls; done
printf '\\n' >> calls
case "$*" in *-f\\ -) cat > applied.yaml ;; esac
"""


def test_the_commands_of_small_nights(tmp_path: Path) -> None:
    """Runs the README's lines; gcloud and kubectl note how they are called, and what they are given."""
    page = (LAUNCH / "README.md").read_text(encoding="utf-8")
    section = page.partition("## Small nights")[2].partition("\n## ")[0]
    (block,) = re.findall(r"```bash\n(.*?)```", section, re.DOTALL)
    (line,) = re.findall(r"`(envsubst [^`]+kubectl[^`]+)`", section)
    (tmp_path / "launch").symlink_to(LAUNCH)
    (tmp_path / "bin").mkdir()
    expand = "import os, sys; sys.stdout.write(os.path.expandvars(sys.stdin.read()))"
    programs = {
        "gcloud": _STUB,
        "kubectl": _STUB,
        # The same as gettext's, which not every machine has.
        "envsubst": f"#!/bin/sh\nexec {shlex.quote(sys.executable)} -c {shlex.quote(expand)}\n",
    }
    for name, text in programs.items():
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    settings = write_settings(tmp_path)
    script = f"set -euo pipefail\nset -a; . {shlex.quote(str(settings))}; set +a\n{block}\n{line}\n"
    env = os.environ | {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for name, file in (("cloud-run-job.yaml", "job.yaml"), ("cronjob.yaml", "applied.yaml")):
        found = yaml.safe_load((tmp_path / file).read_text(encoding="utf-8"))
        assert found == _container(name, tmp_path)[0]
    calls = [call.split("\t") for call in (tmp_path / "calls").read_text().splitlines()]
    assert [" ".join(call[:4]) for call in calls] == [
        "gcloud services enable run.googleapis.com",
        "gcloud run jobs replace",
        "gcloud scheduler jobs create",
        "kubectl apply -f -",
    ]
    assert all(call[call.index("--project") + 1] == "my-project" for call in calls[:3])
    # What the scheduler calls starts that job, and nothing else.
    uri = calls[2][calls[2].index("--uri") + 1]
    jobs = description("run.v2")["resources"]["projects"]["resources"]["locations"]["resources"]["jobs"]
    path = jobs["methods"]["run"]["flatPath"]
    form = re.sub(r"\\\{\w+\\\}", "([^/:]+)", re.escape(path))
    match = re.fullmatch(f"https://run.googleapis.com/{form}", uri)
    assert match is not None
    assert match.groups() == ("my-project", "us-central1", "embed-nightly")


@pytest.mark.slow
def test_the_container_runs_a_night_and_its_retry(tmp_path: Path, tiny_bundle: Path) -> None:
    """Its arguments, with local places: a night, then a second start of the same one."""
    source = write_texts(tmp_path / "in.jsonl", ["a cat", "a dog"])
    values = {"INPUT": source, "OUTPUT": str(tmp_path / "out"), "BUNDLE": str(tiny_bundle)}
    args, others = (
        re.findall(r"(?m)^ +- (--.+)$", Template((LAUNCH / name).read_text()).safe_substitute(values))
        for name in ("cloud-run-job.yaml", "cronjob.yaml")
    )
    assert args == others
    with capture() as (_, stderr):
        codes = [launch_job(embed_parser(), args) for _ in range(2)]
    assert codes == [0, 0], stderr.getvalue()
    lines = [json.loads(line) for line in stderr.getvalue().splitlines()]
    assert "was finished before; nothing is done" in lines[-1]["message"]
    (run,) = (tmp_path / "out").glob("night-*/manifest.json")
    assert '"num_written": 2' in run.read_text(encoding="utf-8")
