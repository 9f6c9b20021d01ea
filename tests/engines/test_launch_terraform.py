"""Terraform: what waits for what, who may do what, and what its own program makes of the settings."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import hcl2
import pytest

from tests.support.cloud.launch import BUNDLE, LAUNCH, modules, printed, write_settings

FOLDER = LAUNCH / "terraform"


def parse_terraform() -> dict[str, Any]:
    """Parses all files: blocks by kind, and the schedule's parameters."""
    parsed: dict[str, Any] = {}
    for path in FOLDER.glob("*.tf"):
        with path.open(encoding="utf-8") as stream:
            for kind, blocks in hcl2.load(stream).items():
                parsed.setdefault(kind, []).extend(blocks)
    (parameters,) = [block["parameters"] for block in parsed["locals"] if "parameters" in block]
    values = {name.strip('"'): str(value).strip('"') for name, value in parameters.items()}
    return {"parsed": parsed, "parameters": {name: value for name, value in values.items() if name[0] != "_"}}


def test_terraform_parses_and_gives_workers_few_rights() -> None:
    parsed = parse_terraform()["parsed"]
    text = (FOLDER / "main.tf").read_text(encoding="utf-8")
    roles = set(re.findall(r'"(roles/[^"]+)"', text))
    assert not roles & {"roles/owner", "roles/editor", "roles/storage.admin", "roles/dataflow.admin"}
    kinds = {kind.strip('"') for block in parsed["resource"] for kind in block if kind[0] != "_"}
    assert {"google_storage_bucket", "google_service_account", "google_artifact_registry_repository",
            "google_cloud_scheduler_job", "google_monitoring_alert_policy"} <= kinds  # fmt: skip
    used = set(re.findall(r"\bvar\.(\w+)", "".join(p.read_text() for p in FOLDER.glob("*.tf"))))
    assert used == {name.strip('"') for block in parsed["variable"] for name in block if name[0] != "_"}


def resources(parsed: dict[str, Any], kind: str) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for block in parsed["resource"]:
        for name, bodies in block.items():
            if name.strip('"') == kind:
                found |= {key.strip('"'): body for key, body in bodies.items()}
    return found


def test_workers_cannot_write_what_the_schedule_starts() -> None:
    found = parse_terraform()
    parsed, parameters = found["parsed"], found["parameters"]
    (template,) = [block["template"] for block in parsed["locals"] if "template" in block]
    assert "var.models_bucket" in str(template)
    assert "var.models_bucket" in str(resources(parsed, "google_storage_bucket")["models"]["name"])
    members = resources(parsed, "google_storage_bucket_iam_member").values()
    rights = {
        (str(member["bucket"]), str(member["role"]).strip('"'))
        for member in members
        if "google_service_account.worker.member" in str(member["member"])
    }
    models = {role for bucket, role in rights if "google_storage_bucket.models" in bucket}
    assert models == {"roles/storage.objectViewer"}
    # Rights in the whole project reach every bucket, unless a condition says otherwise.
    for member in resources(parsed, "google_project_iam_member").values():
        if "google_service_account.worker.member" in str(member["member"]):
            assert str(member["role"]).strip('"') == "roles/dataflow.worker"
            assert "google_storage_bucket.jobs.name" in str(member["condition"])
            assert "models" not in str(member["condition"])
    assert "var.bundle" in parameters["bundle"]
    assert "bundle_store" not in parameters


def test_every_resource_waits_for_its_service() -> None:
    parsed = parse_terraform()["parsed"]
    (services,) = [block["services"] for block in parsed["locals"] if "services" in block]
    with modules("check") as (check,):
        assert {str(name).strip('"') for name in services} == set(check.SERVICES)
    found = 0
    for block in parsed["resource"]:
        for kind, bodies in block.items():
            for name, body in bodies.items() if kind[0] != "_" else ():
                if kind.strip('"') != "google_project_service":
                    found += 1
                    assert "google_project_service.used" in str(body.get("depends_on")), (kind, name)
    assert found > 20


def test_check_looks_for_the_roles_that_terraform_grants() -> None:
    parsed, found = parse_terraform()["parsed"], set()
    places = {
        "google_storage_bucket.models": "MODELS",
        "google_storage_bucket.jobs": "BUCKET",
        "var.input": "INPUT",
    }
    for kind, on in (
        ("google_storage_bucket_iam_member", None),
        ("google_project_iam_member", "project"),
        ("google_artifact_registry_repository_iam_member", "images"),
        ("google_service_account_iam_member", "worker"),
    ):
        for member in resources(parsed, kind).values():
            (account,) = re.findall(r"google_service_account\.(\w+)\.member", str(member["member"]))
            place = on or next(there for name, there in places.items() if name in str(member["bucket"]))
            found.add((account, text_of(member["role"]), place))
    with modules("grants") as (grants,):
        assert {(grant.account, grant.role, grant.on) for grant in grants.GRANTS} == found
    kinds = {kind.strip('"') for block in parsed["resource"] for kind in block if "_iam_member" in kind}
    assert kinds - {"google_kms_crypto_key_iam_member"} == {
        "google_storage_bucket_iam_member",
        "google_project_iam_member",
        "google_artifact_registry_repository_iam_member",
        "google_service_account_iam_member",
    }


def text_of(value: Any) -> str:
    return re.sub(r'^"|"$', "", str(value)).replace('\\"', '"')


@pytest.fixture
def terraform(tmp_path: Path) -> Path:
    """A folder with the variables and the launch, which need no provider."""
    if shutil.which("terraform") is None:
        pytest.skip("Terraform's program is not installed.")
    for name in ("variables.tf", "launch.tf"):
        shutil.copy(FOLDER / name, tmp_path)
    return tmp_path


def evaluate(
    folder: Path, settings: Path, expression: str, **changed: str
) -> subprocess.CompletedProcess[str]:
    """Evaluates an expression as Terraform would with these settings."""
    with modules("settings") as (module,):
        values = module.read_settings(settings).values
    variables = {name: value for name, value in values.items() if name.startswith("TF_VAR_")}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TF_")}
    return subprocess.run(
        ["terraform", f"-chdir={folder}", "console"],
        input=f"jsonencode({expression})",
        env=kept | variables | {f"TF_VAR_{name}": value for name, value in changed.items()},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"TASK": "classify"},
        {
            "KMS_KEY": "projects/p/locations/us-central1/keyRings/r/cryptoKeys/k",
            "SUBNETWORK": "regions/us-central1/subnetworks/s",
            "PRIVATE_WORKERS": "true",
        },
    ],
    ids=["plain", "classify", "private"],
)
def test_the_schedule_of_terraform_sends_what_submit_does(
    terraform: Path, tmp_path: Path, changed: dict[str, str]
) -> None:
    settings = write_settings(tmp_path, **changed)
    done = evaluate(terraform, settings, "local.launch")
    assert done.returncode == 0, done.stderr
    assert json.loads(json.loads(done.stdout)) == printed("submit", settings)


def test_without_image_or_bundle_there_is_no_schedule_yet(terraform: Path, tmp_path: Path) -> None:
    for changed, expected in (({}, "true"), ({"IMAGE": ""}, "false"), ({"BUNDLE": ""}, "false")):
        done = evaluate(terraform, write_settings(tmp_path, **changed), "local.has_schedule")
        assert (done.returncode, json.loads(done.stdout)) == (0, expected), done.stderr


@pytest.mark.parametrize(
    ("name", "wrong", "said"),
    [
        ("image", "eu-docker.pkg.dev/p/jobs/embed:1", "Name the image by its digest"),
        ("bundle", "gs://b/m/x", "Name the bundle with its digest"),
        ("bundle", BUNDLE[:-1], "Name the bundle with its digest"),
        ("task", "banana", "Expected embed or classify"),
        ("input", "/data/*.jsonl", "Expected a pattern such as"),
        ("max_workers", "many", "number"),
        ("paused", "maybe", "bool"),
    ],
)
def test_terraform_refuses_wrong_variables(
    terraform: Path, tmp_path: Path, name: str, wrong: str, said: str
) -> None:
    done = evaluate(terraform, write_settings(tmp_path), "local.launch", **{name: wrong})
    assert said in done.stderr
    assert f"var.{name}" in done.stderr or f'variable "{name}"' in done.stderr
