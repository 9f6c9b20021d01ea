"""The image; none is built, for want of an engine."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from tests.support.cloud.api_descriptions import faults
from tests.support.cloud.launch import LAUNCH


def test_cloud_build_names_what_the_dockerfile_takes() -> None:
    build = yaml.safe_load((LAUNCH / "cloudbuild.yaml").read_text(encoding="utf-8"))
    assert not faults("cloudbuild.v1", "Build", build)
    text = (LAUNCH / "Dockerfile").read_text(encoding="utf-8")
    given = {arg.removeprefix("--build-arg=").partition("=")[0] for step in build["steps"]
             for arg in step["args"] if arg.startswith("--build-arg")}  # fmt: skip
    assert given <= set(re.findall(r"^ARG (\w+)", text, re.MULTILINE))
    # The second step is a shell script, which runs the sample text from end to end.
    (script,) = [step["args"][-1] for step in build["steps"] if step["id"] == "try"]
    assert "python -m beam_jobs.embed --output" in script


def test_a_change_of_code_leaves_the_dependencies_layer() -> None:
    lines = (LAUNCH / "Dockerfile").read_text(encoding="utf-8").splitlines()
    (install,) = [n for n, line in enumerate(lines) if "-r launch/requirements.txt" in line]
    before = [line for line in lines[:install] if line.startswith(("COPY", "ARG"))]
    assert "COPY launch/requirements.txt launch/requirements-build.txt launch/" in before
    assert not [line for line in before if line.startswith(("COPY . ", "ARG TASK", "ARG BUNDLE"))]
    assert [line for line in lines[install:] if line == "COPY . ."]


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
    installs = [line.split(" && ")[0] for line in re.findall(r"^RUN pip install (.+)$", text, re.MULTILINE)]
    assert all("--require-hashes " in line or line.endswith("--no-deps .") for line in installs)
    assert {line.split()[-1] for line in installs} == {*hashes, "."}


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
    assert len(steps) >= 8
    for step in steps:
        step = step.replace("/tmp/", f"{tmp_path}/").replace(" /app/", f" {app}/")
        done = subprocess.run(
            ["bash", "-ec", step], cwd=app, env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{step}\n{done.stdout}\n{done.stderr}"
    megabytes = sum(path.stat().st_size for path in venv.rglob("*") if path.is_file()) / 1e6
    print(f"steps took {time.monotonic() - started:.0f} s; installed: {megabytes:,.0f} MB")
    assert not list(venv.rglob("tensorflow/include"))
    installed = (app / "installed.txt").read_text(encoding="utf-8").lower()
    assert "tensorflow==" in installed
    assert "apache-beam==" in installed
    assert not re.search(r"^torch==", installed, re.MULTILINE)
    done = subprocess.run([str(venv / "bin" / "python"), "main.py", "--help"], cwd=app, env=env,
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert "--on_no_input" in done.stdout
    build = yaml.safe_load((LAUNCH / "cloudbuild.yaml").read_text(encoding="utf-8"))
    (script,) = [step["args"][-1] for step in build["steps"] if step["id"] == "try"]
    done = subprocess.run(["bash", "-ec", script.replace("/tmp/", f"{tmp_path}/")], cwd=app, env=env,
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "try" / "latest.json").exists()
