"""Runs a job that was sent to Dataflow from what was staged for it, as a worker would see it.

``python dataflow_replay.py JOB.json FOLDER``: this file imports nothing of the project, which comes from the
staged archive alone. Of Dataflow itself (its splitting, retries and containers) nothing is here.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any


def _fetch(url: str) -> bytes:
    bucket, _, name = url.removeprefix("gs://").partition("/")
    base = os.environ["STORAGE_EMULATOR_HOST"]
    place = f"{base}/download/storage/v1/b/{bucket}/o/{urllib.parse.quote(name, safe='')}?alt=media"
    with urllib.request.urlopen(place) as answer:
        data: bytes = answer.read()
    return data


def _install(job: dict[str, Any], folder: Path) -> None:
    """Installs the staged archive alone, in front of whatever else this Python has."""
    site = folder / "site"
    if not site.exists():
        for package in job["environment"]["workerPools"][0]["packages"]:
            place = "gs://" + package["location"].partition("/")[2]
            (folder / package["name"]).write_bytes(_fetch(place))
        install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation"]
        subprocess.run(
            [*install, "--no-index", "--target", str(site), str(folder / "workflow.tar.gz")], check=True
        )
    sys.path.insert(0, str(site))
    for name in ("beam_jobs", "model_bundle"):
        found = __import__(name).__file__ or ""
        if not found.startswith(str(site)):
            raise SystemExit(f"{name} comes from {found}, not from the staged archive")


def main() -> None:
    """Runs the job; an error of it ends this process with its traceback."""
    job, folder = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    _install(job, folder)
    options = job["environment"]["sdkPipelineOptions"]["options"]
    proto = _fetch(options["pipelineUrl"])
    if hashlib.sha256(proto).hexdigest() != options["pipelineProtoHash"]:
        raise SystemExit("the staged pipeline is not the one that the job names")

    from apache_beam.internal import pickler
    from apache_beam.options.pipeline_options import PipelineOptions
    from apache_beam.portability import python_urns
    from apache_beam.portability.api import beam_runner_api_pb2
    from apache_beam.runners.portability.fn_api_runner import fn_runner

    session = folder / "pickled_main_session"
    if session.exists():
        pickler.load_session(str(session))
    pipeline = beam_runner_api_pb2.Pipeline.FromString(proto)
    for environment in pipeline.components.environments.values():
        environment.ClearField("dependencies")
        environment.urn, environment.payload = python_urns.EMBEDDED_PYTHON, b""
    result = fn_runner.FnApiRunner().run_via_runner_api(pipeline, PipelineOptions())
    result.wait_until_finish()
    print(result.state)


if __name__ == "__main__":
    main()
