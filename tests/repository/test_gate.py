"""The gate and its workflows: every step is a stage, and every stage runs somewhere."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
GATE = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def groups() -> dict[str, list[str]]:
    """Returns the stages of each name that stands for several, as the gate expands it."""
    named = re.findall(r"^ +(\w+)\) stages\+=\(([a-z ]+)\)", GATE, re.MULTILINE)
    return {name: listed.split() for name, listed in named}


def stages() -> set[str]:
    """Returns the stages that the gate knows how to run: the cases of its loop."""
    loop = GATE[GATE.index('for name in "${stages[@]}"') :]
    return set(re.findall(r"^        (\w+)\) ", loop, re.MULTILINE))


def commands(workflow: Path) -> list[str]:
    read: dict[str, Any] = yaml.safe_load(workflow.read_text(encoding="utf-8"))
    return [step["run"] for job in read["jobs"].values() for step in job["steps"] if "run" in step]


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_every_step_of_a_workflow_is_a_stage_of_the_gate(workflow: Path) -> None:
    read = yaml.safe_load(workflow.read_text(encoding="utf-8"))
    assert commands(workflow)
    for command in commands(workflow):
        script, *names = command.split()
        assert script == ".ci/run"
        assert names
        assert set(names) <= stages() | set(groups())
    for job in read["jobs"].values():
        assert job["runs-on"]
        uses = [step["uses"].partition("@")[0] for step in job["steps"] if "uses" in step]
        assert uses == ["actions/checkout", "actions/setup-python"]
        minutes = int((read.get("env") or job["env"])["MINUTES"])
        assert minutes < job["timeout-minutes"]  # the gate ends by itself, and says what it left out


def test_the_workflows_leave_out_no_stage() -> None:
    run = {name for workflow in WORKFLOWS for command in commands(workflow) for name in command.split()[1:]}
    found = {stage for name in run for stage in groups().get(name, [name])}
    assert found == stages()


def test_one_command_runs_all_but_the_engines_and_begins_with_the_readme() -> None:
    assert set(groups()["all"]) == stages() - {"engines"}
    assert groups()["all"][0] == groups()["fast"][0] == "readme"


def test_a_stage_that_is_none_is_refused() -> None:
    done = subprocess.run([ROOT / ".ci" / "run", "nonsense"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "no stage nonsense; the stages are named at the top of .ci/run\n"
