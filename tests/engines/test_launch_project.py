"""A fresh project on loopback: every command of launch/README.md in its order, and what check.py finds."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.cloud.api_descriptions import description, faults
from tests.support.cloud.fake_console import FakeConsole
from tests.support.cloud.fake_google import FakeGoogle, serving
from tests.support.cloud.launch import DIGEST, LAUNCH, call_script, finished_project, printed, write_settings

_WORKER = "embedding-worker@my-project.iam.gserviceaccount.com"
_MODELS = "my-project-embedding-models"
_DESCRIBED = (
    *("artifactregistry.v1", "cloudresourcemanager.v1", "cloudscheduler.v1", "compute.v1", "dataflow.v1b3"),
    *("iam.v1", "serviceusage.v1", "storage.v1"),
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeGoogle]:
    with serving() as google, pytest.MonkeyPatch.context() as patch:
        for name, value in google.environment(tmp_path_factory.mktemp("key")).items():
            patch.setenv(name, value)
        yield google


@pytest.fixture
def google(server: FakeGoogle) -> FakeGoogle:
    server.requests.clear()
    server.storage.objects.clear()
    server.dataflow.launched.clear()
    return server


@pytest.fixture
def project(google: FakeGoogle) -> FakeConsole:
    return finished_project(google)


@pytest.fixture
def settings(google: FakeGoogle, project: FakeConsole, tmp_path: Path) -> Path:
    """The settings of a project after all steps: bundle, template and schedule are those that they name."""
    manifest = b'{"name": "x"}'
    digest = hashlib.sha256(manifest).hexdigest()
    google.storage.put(f"{_MODELS}/model_bundles/x/bundle.json", manifest)
    path = write_settings(tmp_path, BUNDLE=f"gs://{_MODELS}/model_bundles/x@sha256:{digest}")
    google.storage.put(
        f"{_MODELS}/templates/embed.json", json.dumps(printed("build_template", path)).encode()
    )
    project.schedules["embed-nightly"] = printed("schedule", path)
    return path


def check(google: FakeGoogle, settings: Path) -> tuple[int, dict[str, str]]:
    """Runs check.py: the exit code, and what it says of each check that fails."""
    code, out, err = call_script("check", f"--settings={settings}", f"--service_url={google.url}")
    assert out.count("\n") >= 12, err
    return code, {found[1]: found[2] for found in re.finditer(r"(?m)^(\w+) +WRONG: (.*\n(?:  .*\n)+)", out)}


def test_a_finished_project_has_nothing_wrong(
    google: FakeGoogle, project: FakeConsole, settings: Path
) -> None:
    assert check(google, settings) == (0, {})
    assert not [fault for api, schema, answer in project.answers for fault in faults(api, schema, answer)
                if "only the service sets it" not in fault]  # fmt: skip
    assert len({(api, schema) for api, schema, _ in project.answers}) == 12


def _put_template(google: FakeGoogle, **changed: Any) -> None:
    key = f"{_MODELS}/templates/embed.json"
    google.storage.put(key, json.dumps(json.loads(google.storage.objects[key]) | changed).encode())


_BREAKS: dict[str, tuple[str, str, str, Callable[[FakeGoogle, FakeConsole], Any]]] = {
    "no project": ("services", "there is no project", "settings.py PROJECT=",
                   lambda _, p: setattr(p, "project", "q")),
    "api off": ("services", "switched off: compute, iam", "gcloud services enable compute.googleapis.com iam",
                lambda _, p: p.off.update({"compute", "iam"})),
    "no right": ("rights", "lacks roles/dataflow.developer", "--role roles/dataflow.developer",
                 lambda _, p: p.denied.add("dataflow.jobs.create")),
    "no region": ("region", "no region us-central1", "gcloud compute regions list",
                  lambda _, p: setattr(p, "region", "us-east1")),
    "few cores": ("region", "C3_CPUS has room for 6", "settings.py MAX_WORKERS=6",
                  lambda _, p: p.quotas.update(C3_CPUS=24.0)),
    "few addresses": ("region", "IN_USE_ADDRESSES has room for 4", "PRIVATE_WORKERS=true",
                      lambda _, p: p.quotas.update(IN_USE_ADDRESSES=4.0)),
    "no network": ("network", "no subnetwork default", "gcloud compute networks create default",
                   lambda _, p: p.subnetworks.clear()),
    "no input": ("buckets", "INPUT: there is no bucket my-texts", "settings.py INPUT=",
                 lambda _, p: p.buckets.pop("my-texts")),
    "no bucket": ("buckets", "BUCKET: there is no bucket", "terraform -chdir=launch/terraform apply",
                  lambda _, p: p.buckets.pop("my-project-embedding-jobs")),
    "far bucket": ("buckets", "MODELS: my-project-embedding-models is in eu", "REGION=eu",
                   lambda _, p: p.buckets.update({"my-project-embedding-models": "EU"})),
    "soft delete": ("buckets", "keeps, and bills", "--clear-soft-delete",
                    lambda _, p: p.soft_delete.add("my-project-embedding-jobs")),
    "no account": ("accounts", "WORKER: there is no service account", "terraform",
                   lambda _, p: p.accounts.discard(_WORKER)),
    "no builder": ("accounts", "BUILDER: there is no service account embedding-builder@", "terraform",
                   lambda _, p: p.accounts.discard("embedding-builder@my-project.iam.gserviceaccount.com")),
    "no state": ("buckets", "STATE: there is no bucket my-project-terraform-state",
                 "gcloud storage buckets create gs://my-project-terraform-state --project my-project",
                 lambda _, p: p.buckets.pop("my-project-terraform-state")),
    "builder cannot push": ("grants", "lacks roles/artifactregistry.writer on images", "terraform",
                            lambda _, p: p.grants["jobs"].clear()),
    "builder cannot log": ("grants", "lacks roles/logging.logWriter on project", "terraform",
                           lambda _, p: p.grants["project"].clear()),
    "workers cannot read": ("grants", "lacks roles/storage.objectViewer on INPUT", "terraform",
                            lambda _, p: p.grants["my-texts"].clear()),
    "scheduler cannot act": ("grants", "lacks roles/iam.serviceAccountUser on worker", "terraform",
                             lambda _, p: p.grants.pop(_WORKER)),
    "no bundle": ("bundle", "BUNDLE: there is no bundle", "step 2",
                  lambda g, _: g.storage.objects.pop(f"{_MODELS}/model_bundles/x/bundle.json")),
    "other bundle": ("bundle", "not the one of the digest", "step 2",
                     lambda g, _: g.storage.put(f"{_MODELS}/model_bundles/x/bundle.json", b"{}")),
    "no image": ("image", "IMAGE: there is no", "step 3", lambda _, p: p.images.clear()),
    "no template": ("template", "TEMPLATE: there is no", "build_template.py",
                    lambda g, _: g.storage.objects.pop(f"{_MODELS}/templates/embed.json")),
    "old image": ("template", "names the image other", "build_template.py",
                  lambda g, _: _put_template(g, image="other")),
    "old flags": ("template", "other parameters than launch/metadata/embed.json", "build_template.py",
                  lambda g, _: _put_template(g, metadata={})),
    "no schedule": ("schedule", "there is no schedule embed-nightly", "terraform",
                    lambda _, p: p.schedules.clear()),
}  # fmt: skip


@pytest.mark.parametrize("what", _BREAKS)
def test_what_is_wrong_is_found_with_the_command_that_mends_it(
    google: FakeGoogle, project: FakeConsole, settings: Path, what: str
) -> None:
    name, said, mend, break_it = _BREAKS[what]
    break_it(google, project)
    code, found = check(google, settings)
    assert code == 1
    assert name in found
    assert said in found[name]
    assert mend in found[name].splitlines()[-1]
    if what not in ("no project", "no region"):
        follows = {"grants"} if "there is no bucket" in said else set()
        assert set(found) - follows == {name}


def test_private_workers_need_a_way_to_google(
    google: FakeGoogle, project: FakeConsole, settings: Path
) -> None:
    assert call_script("settings", f"--settings={settings}", "PRIVATE_WORKERS=true")[0] == 0
    project.subnetworks["default"] = False
    project.quotas["IN_USE_ADDRESSES"] = 0.0
    _, found = check(google, settings)
    assert list(found) == ["network"]
    assert "--enable-private-ip-google-access" in found["network"]


def test_a_schedule_of_another_bundle_is_found(google: FakeGoogle, settings: Path) -> None:
    assert call_script("settings", f"--settings={settings}", "INPUT=gs://my-texts/other/*.jsonl")[0] == 0
    _, found = check(google, settings)
    assert "gs://my-texts/{date-1}/*.jsonl as INPUT" in found["schedule"]


def _methods() -> list[tuple[str, re.Pattern[str], set[str]]]:
    """HTTP method, path and query parameters of every method of the described services."""
    found = []

    def add(resource: dict[str, Any], root: str, common: set[str]) -> None:
        for method in resource.get("methods", {}).values():
            paths = [f"/{root}{method.get('flatPath', method['path'])}"]
            paths += [each["path"] for each in method.get("mediaUpload", {}).get("protocols", {}).values()]
            parts = [re.split(r"\{\+?\w+\}", path) for path in paths]
            form = "|".join("[^/]+".join(map(re.escape, fixed)) for fixed in parts)
            query = {
                name for name, each in method.get("parameters", {}).items() if each["location"] == "query"
            }
            found.append((method["httpMethod"], re.compile(form), query | common | {"uploadType"}))
        for inner in resource.get("resources", {}).values():
            add(inner, root, common)

    for api in _DESCRIBED:
        document = description(api)
        add(document, document["servicePath"], set(document["parameters"]))
    return found


def _is_described(request: Any, methods: list[tuple[str, re.Pattern[str], set[str]]]) -> bool:
    return any(
        request.method == method and form.fullmatch(request.path) and set(request.flags) <= query
        for method, form, query in methods
    )


_STUB = """#!/bin/sh
printf '%s' "$(basename "$0")" >> "$CALLS"
for word in "$@"; do printf '\\t%s' "$word" >> "$CALLS"; done
printf '\\n' >> "$CALLS"
case "$(basename "$0")" in
docker) echo "sha256:$DIGEST" ;;
terraform) env | grep ^TF_VAR_ | sort > "$CALLS.$(wc -l < "$CALLS" | tr -d ' ')" ;;
esac
"""


def _checkout(folder: Path, google: FakeGoogle) -> dict[str, str]:
    """A checkout whose gcloud, docker and terraform only note how they are called; its environment."""
    shutil.copytree(LAUNCH, folder / "launch", ignore=shutil.ignore_patterns("__pycache__", "settings.env"))
    for name in ("beam_jobs", "model_bundle"):
        (folder / name).symlink_to(LAUNCH.parent / name)
    (folder / "bin").mkdir()
    for name in ("gcloud", "docker", "terraform", "kubectl"):
        (folder / "bin" / name).write_text(_STUB)
        (folder / "bin" / name).chmod(0o755)
    python = folder / "bin" / "python"
    python.write_text(
        f'#!/bin/sh\ncase "$1" in launch/settings.py | -*) exec {sys.executable} "$@" ;; esac\n'
        f'exec {sys.executable} "$@" --service_url={google.url}\n'
    )
    python.chmod(0o755)
    env = {name: value for name, value in os.environ.items() if not name.startswith("TF_VAR_")}
    return env | {
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
        "CALLS": str(folder / "calls"),
        "DIGEST": DIGEST,
        "BEAM_JOBS_CACHE": str(folder / "cache"),
    }


def test_the_commands_of_the_readme_in_their_order(
    google: FakeGoogle, project: FakeConsole, tmp_path: Path
) -> None:
    """Steps 0 to 6; the schedule is that of schedule.py: test_launch_terraform compares the two."""
    page = (LAUNCH / "README.md").read_text(encoding="utf-8")
    copy, commands = re.findall(r"```bash\n(cp .*?|# 0\..*?)```", page, re.DOTALL)
    steps = re.split(r"(?m)^(?=# \d\. )", commands)[1:]
    assert [step[:4] for step in steps] == [f"# {number}." for number in range(7)]
    folder = tmp_path / "clone"
    folder.mkdir()
    env = _checkout(folder, google)
    (folder / "state").write_text("")

    def run(step: str) -> subprocess.CompletedProcess[str]:
        # One shell for all: what it has set and defined goes on to the next step.
        script = f"set -euo pipefail\n. ./state\n{step}\nexport -p > state\ndeclare -f >> state\n"
        return subprocess.run(
            ["bash", "-c", script], cwd=folder, env=env, capture_output=True, text=True, check=False
        )

    done = run(steps[0])
    assert done.returncode == 1
    assert "cp" in done.stderr  # the first command was left out
    for step in (copy, *steps[:4]):
        done = run(step)
        assert done.returncode == 0, (step, done.stderr)
    settings = folder / "launch" / "settings.env"
    project.schedules["embed-nightly"] = printed("schedule", settings)  # the second apply
    for step in steps[4:]:
        done = run(step)
        assert done.returncode == 0, (step, done.stdout, done.stderr)

    calls = [line.split("\t") for line in (folder / "calls").read_text().splitlines()]
    assert [" ".join(call[:3]) for call in calls if call[0] != "docker"] == [
        "gcloud auth login",
        "gcloud auth application-default",
        "gcloud services enable",
        "gcloud storage buckets",
        "terraform -chdir=launch/terraform init",
        "terraform -chdir=launch/terraform apply",
        "gcloud auth configure-docker",
        "gcloud builds submit",
        "terraform -chdir=launch/terraform apply",
        "terraform -chdir=launch/terraform apply",
    ]
    for call in calls:  # nothing falls back to the account's own default project
        if call[:2] in (["gcloud", "services"], ["gcloud", "storage"], ["gcloud", "builds"]):
            assert call[call.index("--project") + 1] == "my-project"
        assert "" not in call
    applied = [
        path.read_text().splitlines()
        for path in sorted(folder.glob("calls.*"), key=lambda p: int(p.suffix[1:]))
    ]
    values = [dict(line.split("=", 1) for line in lines) for lines in applied[1:]]
    assert [one["TF_VAR_image"] != "" for one in values] == [False, True, True]
    assert [one["TF_VAR_paused"] for one in values] == ["true", "true", "false"]
    assert all(one["TF_VAR_region"] == "us-central1" for one in values)
    (launched,) = google.dataflow.launched
    parameters = launched["launchParameter"]["parameters"]
    assert (launched["launchParameter"]["jobName"], parameters["date"]) == ("embed-try", "2026-11-27")
    assert parameters["bundle"] == values[1]["TF_VAR_bundle"]
    assert not faults("dataflow.v1b3", "LaunchFlexTemplateRequest", launched)
    methods = _methods()
    # Neither the login nor the continued upload, whose address is the service's own, is described.
    sent = [one for one in google.requests if "/token" not in one.path and "upload_id" not in one.flags]
    assert [f"{one.method} {one.path}" for one in sent if not _is_described(one, methods)] == []
    assert len(sent) > 15

    # The night: what the schedule holds is sent, and sent again while the first one runs.
    night = json.loads(base64.b64decode(project.schedules["embed-nightly"]["httpTarget"]["body"]))
    google.dataflow.running.add("embed-nightly")
    done = run("python launch/submit.py")
    assert done.returncode == 1
    assert "already an active job named embed-nightly" in done.stderr
    google.dataflow.running.clear()
    assert run("python launch/submit.py").returncode == 0
    assert google.dataflow.launched[-1] == night
