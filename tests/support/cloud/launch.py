"""Helpers of the tests of launch/: settings that are complete, and its scripts as programs or modules."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.cloud.fake_console import FakeConsole
from tests.support.cloud.fake_google import FakeGoogle
from tests.support.runs.jobs import capture

LAUNCH = Path(__file__).parents[3] / "launch"
DIGEST = "0" * 64
IMAGE = f"us-central1-docker.pkg.dev/my-project/jobs/embed@sha256:{DIGEST}"
BUNDLE = f"gs://my-project-embedding-models/model_bundles/x@sha256:{DIGEST}"


def write_settings(folder: Path, **values: str) -> Path:
    """Writes the settings of the repository with image and bundle, changed by ``values``."""
    lines = (LAUNCH / "settings.env.example").read_text(encoding="utf-8").splitlines()
    changed = {"IMAGE": IMAGE, "BUNDLE": BUNDLE} | values
    path = folder / "settings.env"
    names = [line.partition("=")[0] for line in lines]
    pairs = zip(names, lines, strict=True)
    text = [f"{name}={changed[name]}" if name in changed else line for name, line in pairs]
    path.write_text("\n".join(text) + "\n", encoding="utf-8")
    return path


def run_script(name: str, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Runs a script of launch/ as a program."""
    return subprocess.run(
        [sys.executable, str(LAUNCH / f"{name}.py"), *args],
        env=os.environ | env,
        capture_output=True,
        text=True,
        check=False,
    )


@contextlib.contextmanager
def modules(*names: str) -> Iterator[list[Any]]:
    """Imports modules of launch/ by their bare names, and takes them out again."""
    before = set(sys.modules)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(LAUNCH)
        yield [importlib.import_module(name) for name in names]
    for name in set(sys.modules) - before:
        if Path(getattr(sys.modules[name], "__file__", None) or "").parent == LAUNCH:
            del sys.modules[name]


def call_script(name: str, *args: str) -> tuple[int, str, str]:
    """Runs a script's ``main`` in this process: exit code, output, errors."""
    code = 0
    with modules(name) as (module,), pytest.MonkeyPatch.context() as patch, capture() as (out, err):
        patch.setattr(sys, "argv", [f"{name}.py", *args])
        try:
            code = module.main() or 0
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 1
            print(error.code, file=err)
    return code, out.getvalue(), err.getvalue()


def printed(name: str, settings: Path, *args: str) -> Any:
    """Returns what a script prints with ``--print_only``."""
    code, out, err = call_script(name, f"--settings={settings}", *args, "--print_only")
    assert code == 0, err
    return json.loads(out)


def finished_project(google: FakeGoogle) -> FakeConsole:
    """Sets up a simulated project as it is after all steps, except for what scripts write."""
    console = google.console = FakeConsole()
    console.buckets = dict.fromkeys(
        (
            "my-texts",
            "my-project-terraform-state",
            "my-project-embedding-jobs",
            "my-project-embedding-models",
        ),
        "us-central1",
    )
    domain = f"{console.project}.iam.gserviceaccount.com"
    console.accounts = {f"embedding-{name}@{domain}" for name in ("worker", "builder", "scheduler")}
    places = {
        "project": "project",
        "images": "jobs",
        "worker": f"embedding-worker@{domain}",
        "INPUT": "my-texts",
        "BUCKET": "my-project-embedding-jobs",
        "MODELS": "my-project-embedding-models",
    }
    with modules("grants") as (grants,):
        for grant in grants.GRANTS:
            held = console.grants.setdefault(places[grant.on], set())
            held.add((grant.role, f"embedding-{grant.account}@{domain}"))
    console.images = {IMAGE}
    return console
