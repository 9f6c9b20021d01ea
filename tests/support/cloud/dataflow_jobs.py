"""Helpers of the tests of Dataflow jobs: submit for real to a fake service, look at the job, run it again."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.support.cloud.fake_google import ENDPOINT, FakeGoogle

PROJECT = Path(__file__).parents[3]
_CLOUD = ("--project=fake-project", "--region=us-central1", "--temp_location=gs://data/temp")
TEXTS = ["the cat sat on a mat", "a dog ran home", "", "quick brown cat and dog of time", "time of the cat"]


def put_texts(google: FakeGoogle, key: str = "data/in/texts.jsonl", texts: list[str] = TEXTS) -> None:
    """Puts texts into the bucket, with ids that are positions."""
    lines = (json.dumps({"id": str(index), "text": text}) for index, text in enumerate(texts))
    google.storage.put(key, "".join(f"{line}\n" for line in lines).encode())


def put_bundle(google: FakeGoogle, bundle: Path, prefix: str) -> None:
    """Puts a bundle into a bucket."""
    for path in bundle.rglob("*"):
        if path.is_file():
            google.storage.put(f"{prefix}/{path.relative_to(bundle).as_posix()}", path.read_bytes())


def run_module(
    google: FakeGoogle, folder: Path, module: str, *flags: str, **env: str
) -> subprocess.CompletedProcess[str]:
    """Runs ``python -m module`` where all of Google is the fake one."""
    cache = {"BEAM_JOBS_CACHE": str(folder / "cache"), "TF_CPP_MIN_LOG_LEVEL": "2"}
    return subprocess.run(
        [sys.executable, "-m", module, *flags],
        cwd=PROJECT,
        env=os.environ | google.environment(folder) | cache | env,
        capture_output=True,
        text=True,
        check=False,
    )


def submit(google: FakeGoogle, folder: Path, *flags: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Submits an embed job with Beam's own DataflowRunner."""
    common = ("--runner=DataflowRunner", f"--dataflow_endpoint={ENDPOINT}", *_CLOUD, "--id_column=id")
    return run_module(google, folder, "beam_jobs.embed", *common, *flags, **env)


def replay(google: FakeGoogle, folder: Path, job: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    """Runs a captured job from its staged files alone, away from the checkout."""
    worker = folder / "worker"
    worker.mkdir(exist_ok=True)
    (worker / "job.json").write_text(json.dumps(job))
    return subprocess.run(
        [sys.executable, "-P", str(PROJECT / "tests/support/cloud/dataflow_replay.py"), "job.json", "."],
        cwd=worker,
        env=os.environ | google.environment(folder) | {"BEAM_JOBS_CACHE": str(folder / "worker-cache")},
        capture_output=True,
        text=True,
        check=False,
    )


def options_of(job: dict[str, Any]) -> dict[str, Any]:
    """Returns the options that the workers of a job see."""
    options: dict[str, Any] = job["environment"]["sdkPipelineOptions"]["options"]
    return options


def pool_of(job: dict[str, Any]) -> dict[str, Any]:
    """Returns the worker pool that a job asks for."""
    pool: dict[str, Any] = job["environment"]["workerPools"][0]
    return pool


def rows_below(google: FakeGoogle, prefix: str) -> pa.Table:
    """Reads all Parquet files below a prefix, by id."""
    found = sorted(
        key for key in google.storage.objects if key.startswith(prefix) and key.endswith(".parquet")
    )
    table = pa.concat_tables(pq.read_table(io.BytesIO(google.storage.objects[key])) for key in found)
    return table.sort_by("doc_id")
