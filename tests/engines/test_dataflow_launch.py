"""Everything in launch/ that can be proven without a cloud; no image is built, for want of an engine."""

from __future__ import annotations

import base64
import importlib.util
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import hcl2
import pytest
import yaml

from beam_jobs.job.flags.parsers import embed_parser
from tests.support.cloud.api_descriptions import faults
from tests.support.cloud.fake_google import FakeGoogle, Fault, serving
from tests.support.cloud.fake_storage import Answer, Request

LAUNCH = Path(__file__).parents[2] / "launch"
_DIGEST = "@sha256:" + "0" * 64
_IMAGE = f"us-docker.pkg.dev/p/jobs/embed{_DIGEST}"
_PLACE = ["--project=p", "--region=us-central1", "--template=gs://b/templates/embed.json"]
_LAUNCH = [
    *_PLACE, "--image", _IMAGE, "--temp_location=gs://b/temp",
    "--service_account=w@p.iam.gserviceaccount.com",
    "--max_workers=20", "--num_workers=2", "--machine_type=c3-standard-8", "--private_ip", "--spot",
    "--label=team=search", "--subnetwork=regions/us-central1/subnetworks/s",
    "--parameter=input=gs://in/{date-1}/*.jsonl", "--parameter=output=gs://b/out",
    "--parameter=run_id=night-{date}",
    "--parameter=previous=latest", "--parameter=prompt_text=a=b",
    f"--parameter=bundle=gs://m/model_bundles/x{_DIGEST}",
]  # fmt: skip
_SCHEDULER = "--scheduler_account=s@p.iam.gserviceaccount.com"


def run_script(name: str, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(LAUNCH / f"{name}.py"), *args],
        env=os.environ | env,
        capture_output=True,
        text=True,
        check=False,
    )


def printed(name: str, *args: str) -> Any:
    done = run_script(name, *args, "--print_only")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def load(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(f"launch_{name}", LAUNCH / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_checker_finds_what_the_service_would_refuse() -> None:
    body = {
        "launchParameter": {"jobName": 3, "environment": {"maxNumWorkers": 5, "ipConfiguration": "PRIVATE"}}
    }
    found = "\n".join(faults("dataflow.v1b3", "LaunchFlexTemplateRequest", body))
    assert "jobName: string is expected" in found
    assert "maxNumWorkers: no such field" in found
    assert "'PRIVATE' is none of" in found
    assert faults("cloudscheduler.v1", "Job", {"state": "ENABLED"})


def test_a_launch_is_what_dataflow_describes() -> None:
    body = printed("submit", *_LAUNCH)
    assert not faults("dataflow.v1b3", "LaunchFlexTemplateRequest", body)
    launch = body["launchParameter"]
    assert launch["environment"]["maxWorkers"] == 20
    assert launch["environment"]["sdkContainerImage"] == _IMAGE
    assert launch["parameters"]["prompt_text"] == "a=b"
    assert launch["jobName"] == "embed-nightly"


def test_a_schedule_is_what_cloud_scheduler_describes_and_holds_that_launch() -> None:
    job = printed("schedule", *_LAUNCH, _SCHEDULER)
    assert not faults("cloudscheduler.v1", "Job", job)
    assert json.loads(base64.b64decode(job["httpTarget"]["body"])) == printed("submit", *_LAUNCH)
    assert job["httpTarget"]["uri"].endswith("/v1b3/projects/p/locations/us-central1/flexTemplates:launch")
    assert job["retryConfig"]["retryCount"] == 1


def test_the_template_is_what_dataflow_describes() -> None:
    spec = printed("build_template", *_PLACE, f"--image={_IMAGE}")
    assert not faults("dataflow.v1b3", "ContainerSpec", spec)
    assert spec["image"] == _IMAGE


def test_metadata_is_made_from_the_flags_of_the_job() -> None:
    stored = json.loads((LAUNCH / "metadata.json").read_text(encoding="utf-8"))
    assert stored == load("make_metadata").metadata(), "run: python launch/make_metadata.py"
    assert not faults("dataflow.v1b3", "TemplateMetadata", stored)
    names = {parameter["name"] for parameter in stored["parameters"]}
    flags = {action.dest for action in embed_parser()._actions}
    assert names <= flags
    assert {"input", "output", "run_id", "date", "previous", "on_no_input", "bundle", "bundle_store"} <= names
    for parameter in stored["parameters"]:
        for pattern in parameter.get("regexes", []):
            re.compile(pattern)


def test_what_the_schedule_says_is_understood_by_the_job() -> None:
    for parameters in (
        printed("submit", *_LAUNCH)["launchParameter"]["parameters"],
        _terraform()["parameters"],
    ):
        _, rest = embed_parser().parse_known_args([f"--{name}={value}" for name, value in parameters.items()])
        assert not rest


@pytest.mark.parametrize("text", ["--input=x", "input", "=x", "input=a --parameter=input=b"])
def test_parameters_that_cannot_be_meant_are_refused(text: str) -> None:
    first, _, second = text.partition(" ")
    given = [f"--parameter={first}", *([second] if second else [])]
    place = [*_PLACE, f"--image={_IMAGE}", "--temp_location=gs://b/t"]
    done = run_script("submit", *place, *given, "--print_only")
    assert done.returncode == 1
    assert "expected NAME=VALUE" in done.stderr or "given twice" in done.stderr


@pytest.fixture
def google() -> Iterator[FakeGoogle]:
    with serving() as server:
        yield server


def test_scripts_send_what_they_print(google: FakeGoogle, tmp_path: Path) -> None:
    env = google.environment(tmp_path)
    google.faults.append(Fault("flexTemplates:launch", 503))
    done = run_script("submit", *_LAUNCH, f"--dataflow_url={google.url}", **env)
    assert done.returncode == 0, done.stderr
    assert google.dataflow.launched == [printed("submit", *_LAUNCH)]
    assert google.faults[0].seen == 1
    google.faults.append(Fault("flexTemplates:launch", 403, message="no right to launch"))
    done = run_script("submit", *_LAUNCH, f"--dataflow_url={google.url}", **env)
    assert (done.returncode, "no right to launch" in done.stderr) == (1, True)
    done = run_script("build_template", *_PLACE, f"--image={_IMAGE}", **env)
    assert done.returncode == 0, done.stderr
    spec = json.loads(google.storage.objects["b/templates/embed.json"])
    assert spec == printed("build_template", *_PLACE, f"--image={_IMAGE}")


def test_a_schedule_is_created_once_and_then_updated(
    google: FakeGoogle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs: dict[str, Any] = {}

    def answer(request: Request) -> Answer:
        if "/token" in request.path:
            return Answer(200, b'{"access_token": "fake", "expires_in": 3600}')
        body = json.loads(request.body)
        if request.method == "PATCH" and body["name"] not in jobs:
            return Answer(404, b"{}")
        jobs[body["name"]] = body
        return Answer(200, request.body)

    monkeypatch.setattr(google, "answer", answer)
    env = google.environment(tmp_path)
    args = (*_LAUNCH, _SCHEDULER, f"--scheduler_url={google.url}")
    said = [run_script("schedule", *args, **env).stderr for _ in range(2)]
    assert [text.split()[0] for text in said] == ["created", "updated"]
    assert list(jobs.values()) == [printed("schedule", *_LAUNCH, _SCHEDULER)]


def test_without_credentials_the_message_says_so(google: FakeGoogle, tmp_path: Path) -> None:
    env = google.environment(tmp_path) | {"GOOGLE_APPLICATION_CREDENTIALS": str(tmp_path / "none.json")}
    done = run_script("submit", *_LAUNCH, f"--dataflow_url={google.url}", **env)
    assert done.returncode == 1
    assert "gcloud auth application-default login" in done.stderr


@pytest.mark.slow
def test_the_age_of_the_last_good_run(tmp_path: Path) -> None:
    assert run_script("check_age", str(tmp_path)).returncode == 1
    for hours, code in ((29, 0), (31, 1)):
        finished = (datetime.now(UTC) - timedelta(hours=hours)).isoformat()
        (tmp_path / "latest.json").write_text(json.dumps({"run_id": "night", "finished_at": finished}))
        done = run_script("check_age", str(tmp_path))
        assert done.returncode == code, done.stderr
        assert f"night, is {hours}.0 hours old" in done.stdout


def _terraform() -> dict[str, Any]:
    parsed: dict[str, Any] = {}
    for path in (LAUNCH / "terraform").glob("*.tf"):
        with path.open(encoding="utf-8") as stream:
            for kind, blocks in hcl2.load(stream).items():
                parsed.setdefault(kind, []).extend(blocks)
    (parameters,) = [block["parameters"] for block in parsed["locals"] if "parameters" in block]
    values = {name.strip('"'): str(value).strip('"') for name, value in parameters.items()}
    return {"parsed": parsed, "parameters": {name: value for name, value in values.items() if name[0] != "_"}}


def test_terraform_parses_and_gives_workers_few_rights() -> None:
    parsed = _terraform()["parsed"]
    text = (LAUNCH / "terraform" / "main.tf").read_text(encoding="utf-8")
    roles = set(re.findall(r'"(roles/[^"]+)"', text))
    assert not roles & {"roles/owner", "roles/editor", "roles/storage.admin", "roles/dataflow.admin"}
    kinds = {kind.strip('"') for block in parsed["resource"] for kind in block if kind[0] != "_"}
    assert {"google_storage_bucket", "google_service_account", "google_artifact_registry_repository",
            "google_cloud_scheduler_job", "google_monitoring_alert_policy"} <= kinds  # fmt: skip
    assert "maxWorkers" in text
    used = set(
        re.findall(r"\bvar\.(\w+)", "".join(p.read_text() for p in (LAUNCH / "terraform").glob("*.tf")))
    )
    assert used == {name.strip('"') for block in parsed["variable"] for name in block if name[0] != "_"}


def _resources(parsed: dict[str, Any], kind: str) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for block in parsed["resource"]:
        for name, bodies in block.items():
            if name.strip('"') == kind:
                found |= {key.strip('"'): body for key, body in bodies.items()}
    return found


def test_workers_cannot_write_what_the_schedule_starts() -> None:
    found = _terraform()
    parsed, parameters = found["parsed"], found["parameters"]
    (template,) = [block["template"] for block in parsed["locals"] if "template" in block]
    started = {name for name in ("models", "jobs") if f"google_storage_bucket.{name}." in str(template)}
    assert started == {"models"}
    members = _resources(parsed, "google_storage_bucket_iam_member").values()
    rights = {
        (str(member["bucket"]), str(member["role"]).strip('"'))
        for member in members
        if "google_service_account.worker.member" in str(member["member"])
    }
    models = {role for bucket, role in rights if "google_storage_bucket.models" in bucket}
    assert models == {"roles/storage.objectViewer"}
    # Rights in the whole project reach every bucket, unless a condition says otherwise.
    for member in _resources(parsed, "google_project_iam_member").values():
        if "google_service_account.worker.member" in str(member["member"]):
            assert str(member["role"]).strip('"') == "roles/dataflow.worker"
            assert "google_storage_bucket.jobs.name" in str(member["condition"])
            assert "models" not in str(member["condition"])
    assert "var.bundle" in parameters["bundle"]
    assert "bundle_store" not in parameters


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("image", "eu-docker.pkg.dev/p/jobs/embed@sha256:" + "a" * 64, "eu-docker.pkg.dev/p/jobs/embed:1"),
        ("bundle", "gs://b/m/x@sha256:" + "0" * 64, "gs://b/m/x"),
        ("bundle", "/opt/bundle@sha256:" + "0" * 64, "minilm"),
    ],
)
def test_terraform_takes_images_and_bundles_by_digest(name: str, good: str, bad: str) -> None:
    text = (LAUNCH / "terraform" / "variables.tf").read_text(encoding="utf-8")
    (pattern,) = re.findall(rf'can\(regex\("([^"]+)", var\.{name}\)\)', text)
    assert re.search(pattern, good)
    assert not re.search(pattern, bad)
    assert not re.search(pattern, good[:-1])


def test_cloud_build_names_what_the_dockerfile_takes() -> None:
    build = yaml.safe_load((LAUNCH / "cloudbuild.yaml").read_text(encoding="utf-8"))
    assert not faults("cloudbuild.v1", "Build", build)
    text = (LAUNCH / "Dockerfile").read_text(encoding="utf-8")
    given = {arg.removeprefix("--build-arg=").partition("=")[0] for step in build["steps"]
             for arg in step["args"] if arg.startswith("--build-arg")}  # fmt: skip
    assert given <= set(re.findall(r"^ARG (\w+)", text, re.MULTILINE))


def test_the_dockerfile_pins_what_constraints_pin() -> None:
    text = (LAUNCH / "Dockerfile").read_text(encoding="utf-8")
    args = dict(re.findall(r"^ARG (\w+)=(\S*)$", text, re.MULTILINE))
    constraints = (LAUNCH.parent / "constraints.txt").read_text(encoding="utf-8")
    assert f"apache-beam=={args['BEAM_VERSION']}\n" in constraints
    for image in re.findall(r"^FROM (\S+)", text, re.MULTILINE):
        assert "latest" not in image
        # By a digest that the builder names, for there is no default to go stale.
        (digest,) = re.findall(r"@\$\{(\w+_DIGEST)\}$", image)
        assert re.search(rf"^ARG {digest}$", text, re.MULTILINE)
    ignored = (LAUNCH.parent / ".dockerignore").read_text(encoding="utf-8").splitlines()
    kept = {line[1:] for line in ignored if line.startswith("!")}
    hashes = {"launch/requirements.txt", "launch/requirements-build.txt"}
    assert {"beam_jobs", "model_bundle", "pyproject.toml", "setup.py", "README.md", *hashes} <= kept
    # Whatever pip installs there is checked by its hash, or is this package.
    installs = re.findall(r"^RUN pip install (.+)$", text, re.MULTILINE)
    assert all("--require-hashes " in line or line.endswith("--no-deps .") for line in installs)
    assert {line.split()[-1] for line in installs} == {*hashes, "."}


@pytest.mark.parametrize(
    ("image", "bundle"),
    [
        ("us-docker.pkg.dev/p/jobs/embed:1", f"gs://m/x{_DIGEST}"),
        (_IMAGE, "gs://m/x"),
        (_IMAGE, "minilm"),
        (_IMAGE, None),
        (_IMAGE, f"gs://m/x{_DIGEST[:-1]}"),
        (f"{_IMAGE}0", f"gs://m/x{_DIGEST}"),
    ],
)
def test_a_schedule_names_image_and_bundle_by_digest(
    image: str, bundle: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SystemExit, match=r"--(image|parameter bundle=).*with its digest"):
        load("bodies").check_pins(image, {} if bundle is None else {"bundle": bundle})
    load("bodies").check_pins(_IMAGE, {"bundle": f"/opt/bundle{_DIGEST}"})
    for name in ("airflow", "airflow.sdk", "airflow.providers.google.cloud.operators.dataflow"):
        monkeypatch.setitem(sys.modules, name, MagicMock())
    monkeypatch.setenv("EMBED_IMAGE", image)
    monkeypatch.setenv("EMBED_BUNDLE", bundle or "")
    with pytest.raises(ValueError, match=r"EMBED_(IMAGE|BUNDLE)=.*with its digest"):
        load("airflow_dag")


def test_the_script_for_a_schedule_checks_them() -> None:
    done = run_script("schedule", *_LAUNCH[:-1], _SCHEDULER, "--print_only")
    assert done.returncode != 0
    assert "--parameter bundle=: expected it with its digest" in done.stderr


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_the_steps_of_the_dockerfile_run_in_a_clean_environment(tmp_path: Path) -> None:
    """Runs each RUN line in a fresh virtual environment, on a copy of what the image would get."""
    app, venv = tmp_path / "app", tmp_path / "venv"
    app.mkdir()
    ignored = (LAUNCH.parent / ".dockerignore").read_text(encoding="utf-8").splitlines()
    for name in (line[1:] for line in ignored if line.startswith("!")):
        (app / name).parent.mkdir(exist_ok=True)
        subprocess.run(["cp", "-r", str(LAUNCH.parent / name), str(app / name)], check=True)
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    text = (LAUNCH / "Dockerfile").read_text(encoding="utf-8")
    keep = ("PATH", "HOME", "PIP_INDEX_URL", "PIP_CONFIG_FILE", "PIP_CERT", "LANG")
    env = {name: os.environ[name] for name in keep if name in os.environ}
    env |= {
        "PATH": f"{venv / 'bin'}:{env['PATH']}",
        "TASK": "embed",
        "BUNDLE": "",
        "TF_CPP_MIN_LOG_LEVEL": "2",
    }
    env["BEAM_JOBS_CACHE"] = str(tmp_path / "cache")
    started = time.monotonic()
    steps = [step for step in re.findall(r"^RUN (.+)$", text, re.MULTILINE) if not step.startswith("useradd")]
    assert len(steps) >= 7
    for step in steps:
        step = step.replace("/app/", f"{app}/")
        done = subprocess.run(
            ["bash", "-ec", step], cwd=app, env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{step}\n{done.stdout}\n{done.stderr}"
    print(f"steps took {time.monotonic() - started:.0f} s")
    installed = (app / "installed.txt").read_text(encoding="utf-8").lower()
    assert "tensorflow==" in installed
    assert "apache-beam==" in installed
    assert not re.search(r"^torch==", installed, re.MULTILINE)
    done = subprocess.run([str(venv / "bin" / "python"), "main.py", "--help"], cwd=app, env=env,
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert "--on_no_input" in done.stdout


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_the_dag_imports_and_renders_under_airflow(tmp_path: Path) -> None:
    """AIRFLOW_PYTHON names a Python that has launch/requirements-airflow.txt; else one is made here."""
    python = os.environ.get("AIRFLOW_PYTHON")
    if python is None:
        subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
        python = str(tmp_path / "venv" / "bin" / "python")
        install = [python, "-m", "pip", "install", "-q", "-r", str(LAUNCH / "requirements-airflow.txt")]
        done = subprocess.run(install, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"Airflow cannot be installed here: {done.stderr.strip()[-300:]}")
    code = (
        "import json, sys; sys.path.insert(0, sys.argv[1]); import pendulum, airflow_dag\n"
        "task = airflow_dag.dag.get_task('embed')\n"
        "task.render_template_fields({'logical_date': pendulum.datetime(2026, 11, 28, 2, 30)})\n"
        "print(json.dumps([task.body, task.append_job_name, task.deferrable]))"
    )
    env = os.environ | {"AIRFLOW_HOME": str(tmp_path / "home"), "EMBED_PROJECT": "p", "EMBED_BUCKET": "b"}
    env |= {"EMBED_BUNDLE": f"gs://b/m/x{_DIGEST}", "EMBED_IMAGE": _IMAGE}
    done = subprocess.run(
        [python, "-c", code, str(LAUNCH)], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    body, appends, deferrable = json.loads(done.stdout.splitlines()[-1])
    assert (appends, deferrable) == (False, True)
    assert not faults("dataflow.v1b3", "LaunchFlexTemplateRequest", body)
    parameters = body["launchParameter"]["parameters"]
    assert parameters["date"] == "2026-11-28"
    flags, rest = embed_parser().parse_known_args([f"--{name}={value}" for name, value in parameters.items()])
    assert (flags.run_id, rest) == ("night-{date}", [])
