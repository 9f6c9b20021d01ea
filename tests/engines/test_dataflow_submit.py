"""Jobs sent by Beam's own DataflowRunner to a fake service, and run again from what was staged for them."""

from __future__ import annotations

import base64
import bz2
import contextlib
import json
import pickletools
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from apache_beam.portability.api import beam_runner_api_pb2

from tests.support.cloud.dataflow_jobs import (
    options_of,
    pool_of,
    put_bundle,
    put_texts,
    replay,
    rows_below,
    submit,
)
from tests.support.cloud.fake_google import FakeGoogle, Fault, serving
from tests.support.runs.jobs import run_job, vectors_of

IMAGE = "us-docker.pkg.dev/fake-project/jobs/embed:1"
_JOB = ("--input=gs://data/in/*.jsonl", "--output=gs://data/out")


@pytest.fixture
def google() -> Iterator[FakeGoogle]:
    with serving() as server:
        put_texts(server)
        yield server


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_job_is_staged_whole_and_gives_the_rows_of_a_local_run(
    google: FakeGoogle, tiny_bundle: Path, tmp_path: Path
) -> None:
    google.faults.append(Fault(r"POST .*/jobs$", 503))
    done = submit(
        google, tmp_path, *_JOB, f"--bundle={tiny_bundle}", "--run_id=night", "--job_name=nightly",
        "--setup_file=./setup.py", "--num_workers=2", "--max_num_workers=7", "--labels=team=search",
        "--no_wait_until_finish",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    job, again = google.dataflow.created[0], google.dataflow.created[1:]
    assert google.faults[0].seen == 1
    assert not again
    _check_job(job, google)
    _check_pickles(google, job)
    assert not [key for key in google.storage.objects if key.startswith("data/out/night/_staging/attempt")]
    ran = replay(google, tmp_path, job)
    assert ran.returncode == 0, ran.stderr
    assert {"data/out/night/manifest.json", "data/out/latest.json"} <= google.storage.objects.keys()
    assert not [key for key in google.storage.objects if "_staging" in key]
    _same_as_local(google, tiny_bundle, tmp_path)
    # A service that is not sure runs the work again: nothing is doubled, nothing changes.
    before = dict(google.storage.objects)
    ran = replay(google, tmp_path, job)
    assert ran.returncode == 0, ran.stderr
    assert {key: value for key, value in google.storage.objects.items() if key in before} == before
    assert len(rows_below(google, "data/out/night/embeddings")) == 4


def _check_job(job: dict[str, Any], google: FakeGoogle) -> None:
    assert (job["name"], job["type"], job["labels"]) == ("nightly", 1, {"team": "search"})
    pool, options = pool_of(job), options_of(job)
    assert pool["kind"] == "harness"
    assert (pool["machineType"], pool["diskSizeGb"], pool["numWorkers"]) == ("c3-standard-4", 31, 2)
    assert pool["autoscalingSettings"]["maxNumWorkers"] == 7
    assert "no_use_multiple_sdk_containers" in job["environment"]["experiments"]
    assert "use_multiple_sdk_containers" not in job["environment"]["experiments"]
    assert pool["numThreadsPerWorker"] == 2
    staged = {package["name"] for package in pool["packages"]}
    assert {"workflow.tar.gz", "submission_environment_dependencies.txt"} <= staged
    (archive,) = [key for key in google.storage.objects if key.endswith("/workflow.tar.gz")]
    assert len(google.storage.objects[archive]) < 1_000_000
    assert options["setup_file"] == "./setup.py"
    pipeline = _pipeline(google, job)
    hints = [dict(e.resource_hints) for e in pipeline.components.environments.values()]
    assert {"beam:resources:min_ram_bytes:v1": b"2000000000"} in hints


def _pipeline(google: FakeGoogle, job: dict[str, Any]) -> Any:
    key = options_of(job)["pipelineUrl"].removeprefix("gs://")
    return beam_runner_api_pb2.Pipeline.FromString(google.storage.objects[key])


def _check_pickles(google: FakeGoogle, job: dict[str, Any]) -> None:
    """Looks into every DoFn: classes of the project travel by their names."""
    mentioned = set()
    for transform in _pipeline(google, job).components.transforms.values():
        if transform.spec.urn == "beam:transform:pardo:v1":
            payload = beam_runner_api_pb2.ParDoPayload.FromString(transform.spec.payload).do_fn.payload
            words = [str(arg) for _, arg, _ in pickletools.genops(_unpacked(payload)) if isinstance(arg, str)]
            mentioned |= {word for word in words if word.startswith(("beam_jobs", "model_bundle"))}
            by_value = [word for word in words if "_make_skeleton_class" in word or word == "__main__"]
            assert not by_value or not any("beam_jobs" in word for word in words), transform.unique_name
    assert {
        "beam_jobs.pipeline.encode.dofn",
        "beam_jobs.pipeline.write.commit",
        "beam_jobs.pipeline.write.transform",
    } <= mentioned


def _unpacked(payload: bytes) -> bytes:
    if not payload:  # a step of the runner's own
        return b"N."
    for unpack in (bz2.decompress, zlib.decompress):
        with contextlib.suppress(ValueError, OSError, zlib.error):
            return unpack(base64.b64decode(payload))
    assert not re.search(rb"beam_jobs|model_bundle", payload)  # a step of Beam's own, in another form
    return b"N."


def _same_as_local(google: FakeGoogle, bundle: Path, folder: Path) -> None:
    texts = folder / "texts.jsonl"
    texts.write_bytes(google.storage.objects["data/in/texts.jsonl"])
    local = run_job(folder / "local", bundle, "--input", texts, "--id_column", "id")
    assert local.exit_code == 0, local.stderr
    here, there = local.rows.sort_by("doc_id"), rows_below(google, "data/out/night/embeddings")
    same = ["doc_id", "text_sha256", "num_tokens", "was_truncated"]
    assert there.select(same).equals(here.select(same))
    np.testing.assert_allclose(vectors_of(there), vectors_of(here), atol=1e-6)
    assert local.manifest.counts.num_read == 5
    manifest = json.loads(google.storage.objects["data/out/night/manifest.json"])
    counts = [manifest["counts"], local.manifest.model_dump(mode="json")["counts"]]
    assert all(count.pop("model_seconds") > 0 for count in counts)
    assert counts[0] == counts[1]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_too_many_dead_letters_fail_the_job_and_the_model_does_not_run_again(
    google: FakeGoogle, tiny_bundle: Path, tmp_path: Path
) -> None:
    put_bundle(google, tiny_bundle, "models/tiny")
    done = submit(
        google, tmp_path, *_JOB, "--bundle=gs://models/tiny", "--run_id=night", "--fail_on_blank",
        f"--sdk_container_image={IMAGE}", "--setup_file=./setup.py", "--no_wait_until_finish",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    job = google.dataflow.created[0]
    assert pool_of(job)["sdkHarnessContainerImages"][0]["containerImage"] == IMAGE
    ran = replay(google, tmp_path, job)
    assert ran.returncode != 0
    assert "TooManyDeadError" in ran.stderr
    kept = {key for key in google.storage.objects if key.startswith("data/out/night/")}
    assert "data/out/night/manifest.failed.json" in kept
    assert not {"data/out/night/manifest.json", "data/out/latest.json"} & kept
    assert len(rows_below(google, "data/out/night/embeddings")) == 4
    # The commit is all that is tried again, on receipts that the service has kept: same manifest.
    manifest = google.storage.objects["data/out/night/manifest.failed.json"]
    assert replay(google, tmp_path, job).returncode != 0
    assert google.storage.objects["data/out/night/manifest.failed.json"] == manifest


@pytest.mark.slow
def test_a_name_that_is_running_is_refused_and_the_running_job_keeps_its_folder(
    google: FakeGoogle, tiny_bundle: Path, tmp_path: Path
) -> None:
    put_bundle(google, tiny_bundle, "models/tiny")
    flags = (
        *_JOB,
        "--bundle=gs://models/tiny",
        "--run_id=night",
        "--job_name=nightly",
        "--setup_file=./setup.py",
    )
    assert submit(google, tmp_path, *flags, "--no_wait_until_finish").returncode == 0
    second = submit(google, tmp_path, *flags)
    assert second.returncode == 1
    assert "nightly" in second.stderr
    first = replay(google, tmp_path, google.dataflow.created[0])
    assert first.returncode == 0, first.stderr
    assert "data/out/night/manifest.json" in google.storage.objects


@pytest.mark.slow
def test_a_job_that_failed_ends_the_command(google: FakeGoogle, tiny_bundle: Path, tmp_path: Path) -> None:
    google.dataflow.final_state = "JOB_STATE_FAILED"
    put_bundle(google, tiny_bundle, "models/tiny")
    done = submit(google, tmp_path, *_JOB, "--bundle=gs://models/tiny", f"--sdk_container_image={IMAGE}")
    assert done.returncode == 1
    assert "The job failed and wrote no run" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("--job_name=Not Valid", "job_name"),
        pytest.param("--num_workers=9 --max_num_workers=3", "max_num_workers", marks=pytest.mark.slow),
        pytest.param("--temp_location=/tmp/here", "gs://", marks=pytest.mark.slow),
    ],
)
def test_bad_options_end_before_a_job_is_made(
    flag: str, said: str, google: FakeGoogle, tiny_bundle: Path, tmp_path: Path
) -> None:
    done = submit(google, tmp_path, *_JOB, f"--bundle={tiny_bundle}", *flag.split(" --")[:1],
                  *(f"--{rest}" for rest in flag.split(" --")[1:]))  # fmt: skip
    assert done.returncode in (1, 2)
    assert said in done.stderr
    assert not google.dataflow.created


@pytest.mark.slow
def test_a_template_is_written_and_nothing_is_started(
    google: FakeGoogle, tiny_bundle: Path, tmp_path: Path
) -> None:
    put_bundle(google, tiny_bundle, "models/tiny")
    place = "--template_location=gs://data/templates/job"
    image = f"--sdk_container_image={IMAGE}"
    switches = ("--keep_text=true", "--no_report=false")
    done = submit(google, tmp_path, *_JOB, "--bundle=gs://models/tiny", place, image, *switches)
    assert done.returncode == 0, done.stderr
    assert not google.dataflow.created
    job = json.loads(google.storage.objects["data/templates/job"])
    assert options_of(job)["pipelineUrl"].startswith("gs://data/")
    missing = ("--input=gs://data/{date}/*.jsonl", "--date=2026-01-01", "--on_no_input=succeed")
    where = ("--output=gs://data/out", "--template_location=gs://data/templates/idle")
    done = submit(google, tmp_path, *missing, *where, "--bundle=gs://models/tiny", image)
    assert done.returncode == 0, done.stderr
    assert "data/templates/idle" in google.storage.objects
