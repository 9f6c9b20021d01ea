"""What launch/ sends: templates, launches, schedules, the DAG."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest.mock import MagicMock

import pytest

from beam_jobs.base.command import Parser
from beam_jobs.job.flags.parsers import classify_parser, embed_parser
from tests.support.cloud.api_descriptions import description, faults
from tests.support.cloud.fake_google import FakeGoogle, Fault, serving
from tests.support.cloud.launch import (
    BUNDLE,
    DIGEST,
    IMAGE,
    LAUNCH,
    call_script,
    finished_project,
    modules,
    printed,
    run_script,
    write_settings,
)

_LAUNCH = [
    "--num_workers=2", "--machine_type=c3-standard-8", "--private_ip", "--flexrs", "--disk_size_gb=60",
    "--label=team=search", "--subnetwork=regions/us-central1/subnetworks/s", "--max_workers=20",
    "--network=n", "--experiment=a", "--experiment=b",
    "--pipeline_option=dataflow_service_options=enable_prime",
    "--kms_key=projects/p/locations/us-central1/keyRings/r/cryptoKeys/k",
    "--parameter=prompt_text=a=b",
]  # fmt: skip


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    return write_settings(tmp_path)


def test_the_checker_finds_what_the_service_would_refuse() -> None:
    body = {
        "launchParameter": {"jobName": 3, "environment": {"maxNumWorkers": 5, "ipConfiguration": "PRIVATE"}}
    }
    found = "\n".join(faults("dataflow.v1b3", "LaunchFlexTemplateRequest", body))
    assert "jobName: string is expected" in found
    assert "maxNumWorkers: no such field" in found
    assert "'PRIVATE' is none of" in found
    assert faults("cloudscheduler.v1", "Job", {"state": "ENABLED"})


def test_a_launch_is_what_dataflow_describes(settings: Path) -> None:
    body = printed("submit", settings, *_LAUNCH)
    assert not faults("dataflow.v1b3", "LaunchFlexTemplateRequest", body)
    launch = body["launchParameter"]
    assert launch["parameters"]["prompt_text"] == "a=b"
    assert launch["jobName"] == "embed-nightly"
    assert launch["environment"] == {
        "sdkContainerImage": IMAGE,
        "tempLocation": "gs://my-project-embedding-jobs/temp",
        "serviceAccountEmail": "embedding-worker@my-project.iam.gserviceaccount.com",
        "machineType": "c3-standard-8",
        "diskSizeGb": 60,
        "numWorkers": 2,
        "maxWorkers": 20,
        "network": "n",
        "subnetwork": "regions/us-central1/subnetworks/s",
        "ipConfiguration": "WORKER_IP_PRIVATE",
        "kmsKeyName": "projects/p/locations/us-central1/keyRings/r/cryptoKeys/k",
        "flexrsGoal": "FLEXRS_COST_OPTIMIZED",
        "additionalExperiments": ["a", "b"],
        "additionalPipelineOptions": ["dataflow_service_options=enable_prime"],
        "additionalUserLabels": {"job": "embed-nightly", "team": "search"},
    }


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (
            [],
            "machine: c3-standard-4, or more of its family if the bundle needs it: of c3 and n2 the cheapest",
        ),
        (["--parameter=precision=int8"], "cheapest per document in int8"),
        (["--parameter=precision=auto"], "machine: the job's choice, by the bundle's size and the precision"),
        (["--machine_type=n2-standard-8"], "machine: n2-standard-8, as given"),
    ],
)
@pytest.mark.parametrize("script", ["submit", "schedule"])
def test_the_machine_is_said_with_the_reason(
    settings: Path, script: str, flags: list[str], said: str
) -> None:
    code, _, err = call_script(script, f"--settings={settings}", *flags, "--print_only")
    assert code == 0
    assert err.startswith(said) or said in err.splitlines()[0]


def _fields(schema: str, value: object) -> set[str]:
    """The fields of a request, as SCHEMA.field, at every depth that a table lists."""
    assert isinstance(value, dict)
    inner = {
        "launchParameter": "LaunchFlexTemplateParameter",
        "environment": "FlexTemplateRuntimeEnvironment",
        "sdkInfo": "SDKInfo",
    }
    found = {f"{schema}.{name}" for name in value}
    for name in inner.keys() & value.keys():
        found |= _fields(inner[name], value[name])
    for parameter in value["parameters"] if schema == "TemplateMetadata" else ():
        found |= _fields("ParameterMetadata", parameter)
    return found | (_fields("TemplateMetadata", value["metadata"]) if "metadata" in value else set())


def test_the_decision_lists_every_field_beside_the_sample(settings: Path) -> None:
    page = (LAUNCH.parent / "docs" / "decisions" / "launch-requests.md").read_text(encoding="utf-8")
    rows = re.findall(r"(?m)^\| `(\w+)\.(\w+)` \| (yes|no) \| (yes|no) \| (.*?) ?\|$", page)
    schemas = description("dataflow.v1b3")["schemas"]
    listed = dict.fromkeys(schema for schema, *_ in rows)
    described = {f"{schema}.{name}" for schema in listed for name in schemas[schema]["properties"]}
    assert {f"{schema}.{name}" for schema, name, *_ in rows} == described
    flags = [*_LAUNCH, "--launcher_machine_type=n2-standard-4"]
    sent = _fields("LaunchFlexTemplateRequest", printed("submit", settings, *flags))
    sent |= _fields("ContainerSpec", printed("build_template", settings))
    assert {f"{schema}.{name}" for schema, name, here, *_ in rows if here == "yes"} == {
        field for field in sent if field.partition(".")[0] in listed
    }
    for schema, name, here, _, why in rows:  # whatever the sample sends is sent, or left out for a reason
        assert (here == "no") == bool(why), f"{schema}.{name}"


def test_a_schedule_is_what_cloud_scheduler_describes_and_holds_that_launch(settings: Path) -> None:
    code, out, err = call_script("schedule", f"--settings={settings}", *_LAUNCH, "--print_only")
    assert code == 0, err
    job = json.loads(out)
    assert not faults("cloudscheduler.v1", "Job", job)
    launch = printed("submit", settings, *_LAUNCH)
    assert json.loads(base64.b64decode(job["httpTarget"]["body"])) == launch
    assert json.loads(err.partition("decoded:\n")[2]) == launch  # for whoever reads the request
    assert job["httpTarget"]["uri"].endswith(
        "/v1b3/projects/my-project/locations/us-central1/flexTemplates:launch"
    )
    assert job["retryConfig"]["retryCount"] == 1


@pytest.mark.parametrize("task", ["embed", "classify"])
def test_the_template_is_what_dataflow_describes(settings: Path, task: str) -> None:
    spec = printed("build_template", settings, f"--task={task}")
    assert not faults("dataflow.v1b3", "ContainerSpec", spec)
    assert spec["image"] == IMAGE
    bundle = {each["name"]: each for each in spec["metadata"]["parameters"]}["bundle"]
    assert bundle["isOptional"] == (task == "embed")


@pytest.mark.parametrize(("task", "parser"), [("embed", embed_parser), ("classify", classify_parser)])
def test_metadata_is_made_from_the_flags_of_the_job(task: str, parser: Callable[[], Parser]) -> None:
    stored = json.loads((LAUNCH / "metadata" / f"{task}.json").read_text(encoding="utf-8"))
    with modules("make_metadata") as (make_metadata,):
        assert stored == make_metadata.metadata(task), "run: python launch/make_metadata.py"
    assert not faults("dataflow.v1b3", "TemplateMetadata", stored)
    names = {parameter["name"] for parameter in stored["parameters"]}
    assert names <= {action.dest for action in parser()._actions}
    assert {"input", "output", "run_id", "date", "previous", "on_no_input", "bundle", "bundle_store"} <= names
    assert ({"top_k", "threshold", "keep_logits"} <= names) == (task == "classify")
    for parameter in stored["parameters"]:
        for pattern in parameter.get("regexes", []):
            re.compile(pattern)


@pytest.fixture
def google() -> Iterator[FakeGoogle]:
    with serving() as server:
        yield server


def test_scripts_send_what_they_print(google: FakeGoogle, tmp_path: Path, settings: Path) -> None:
    env = google.environment(tmp_path)
    place = (f"--settings={settings}", f"--service_url={google.url}")
    google.faults.append(Fault("flexTemplates:launch", 503))
    done = run_script("submit", *place, *_LAUNCH, **env)
    assert done.returncode == 0, done.stderr
    assert google.dataflow.launched == [printed("submit", settings, *_LAUNCH)]
    assert google.faults[0].seen == 1
    google.faults.append(Fault("flexTemplates:launch", 403, message="no right to launch"))
    done = run_script("submit", *place, *_LAUNCH, **env)
    assert (done.returncode, "no right to launch" in done.stderr) == (1, True)
    done = run_script("build_template", *place, **env)
    assert done.returncode == 0, done.stderr
    spec = json.loads(google.storage.objects["my-project-embedding-models/templates/embed.json"])
    assert spec == printed("build_template", settings)


def test_a_schedule_is_created_once_and_then_updated(
    google: FakeGoogle, tmp_path: Path, settings: Path
) -> None:
    console = finished_project(google)
    env = google.environment(tmp_path)
    place = (f"--settings={settings}", f"--service_url={google.url}")
    said = [run_script("schedule", *place, *_LAUNCH, **env).stderr for _ in range(2)]
    assert [text.splitlines()[-1].split()[0] for text in said] == ["created", "updated"]
    assert list(console.schedules.values()) == [printed("schedule", settings, *_LAUNCH)]


def test_without_credentials_the_message_says_so(google: FakeGoogle, tmp_path: Path, settings: Path) -> None:
    env = google.environment(tmp_path) | {"GOOGLE_APPLICATION_CREDENTIALS": str(tmp_path / "none.json")}
    done = run_script("submit", f"--settings={settings}", f"--service_url={google.url}", **env)
    assert done.returncode == 1
    assert "gcloud auth application-default login" in done.stderr


@pytest.mark.parametrize(
    ("image", "bundle"),
    [
        ("us-docker.pkg.dev/p/jobs/embed:1", BUNDLE),
        (IMAGE, "gs://m/x"),
        (IMAGE, "minilm"),
        (IMAGE, None),
        (IMAGE, BUNDLE[:-1]),
        (f"{IMAGE}0", BUNDLE),
    ],
)
def test_a_schedule_names_image_and_bundle_by_digest(
    image: str, bundle: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with modules("bodies") as (bodies,):
        with pytest.raises(SystemExit, match=r"--(image|parameter bundle=).*with its digest"):
            bodies.check_pins(image, {} if bundle is None else {"bundle": bundle})
        bodies.check_pins(IMAGE, {"bundle": f"/opt/bundle@sha256:{DIGEST}"})
    for name in ("airflow", "airflow.sdk", "airflow.providers.google.cloud.operators.dataflow"):
        monkeypatch.setitem(sys.modules, name, MagicMock())
    monkeypatch.setenv("EMBED_IMAGE", image)
    monkeypatch.setenv("EMBED_BUNDLE", bundle or "")
    with pytest.raises(ValueError, match=r"EMBED_(IMAGE|BUNDLE)=.*with its digest"), modules("airflow_dag"):
        pass


def test_the_script_for_a_schedule_checks_them(settings: Path) -> None:
    code, _, err = call_script(
        "schedule", f"--settings={settings}", "--parameter=bundle=minilm", "--print_only"
    )
    assert code != 0
    assert "--parameter bundle=minilm: expected it with its digest" in err


@pytest.mark.slow
def test_the_age_of_the_last_good_run(tmp_path: Path) -> None:
    assert run_script("check_age", str(tmp_path)).returncode == 1
    for hours, code in ((29, 0), (31, 1)):
        finished = (datetime.now(UTC) - timedelta(hours=hours)).isoformat()
        (tmp_path / "latest.json").write_text(json.dumps({"run_id": "night", "finished_at": finished}))
        done = run_script("check_age", str(tmp_path))
        assert done.returncode == code, done.stderr
        assert f"night, is {hours}.0 hours old" in done.stdout


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
    env |= {"EMBED_BUNDLE": BUNDLE, "EMBED_IMAGE": IMAGE}
    env["EMBED_ENVIRONMENT"] = json.dumps({"diskSizeGb": 60, "kmsKeyName": "k"})
    env["EMBED_PARAMETERS"] = json.dumps({"text_column": "body"})
    done = subprocess.run(
        [python, "-c", code, str(LAUNCH)], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    body, appends, deferrable = json.loads(done.stdout.splitlines()[-1])
    assert (appends, deferrable) == (False, True)
    assert not faults("dataflow.v1b3", "LaunchFlexTemplateRequest", body)
    parameters = body["launchParameter"]["parameters"]
    assert parameters["date"] == "2026-11-28"
    assert parameters["text_column"] == "body"
    assert body["launchParameter"]["environment"]["diskSizeGb"] == 60
    flags, rest = embed_parser().parse_known_args([f"--{name}={value}" for name, value in parameters.items()])
    assert (flags.run_id, rest) == ("night-{date}", [])
