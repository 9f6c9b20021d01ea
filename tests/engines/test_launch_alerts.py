"""Each alert of launch/terraform, judged on time series as Cloud Monitoring records them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.engines.test_launch_terraform import parse_terraform, resources, text_of
from tests.support.cloud.api_descriptions import faults
from tests.support.cloud.launch import LAUNCH

# Points as (minute, value), by metric and job: Dataflow writes one a minute while a job runs.
Series = dict[tuple[str, str], list[tuple[int, float]]]
_JOB, _MAX_HOURS = "embed-nightly", 12


def _elapsed(minutes: int) -> list[tuple[int, float]]:
    return [(minute, 60.0 * minute) for minute in range(0, minutes, 5)]


def _nights(*hours: float) -> list[tuple[int, float]]:
    """Points of the count of good ends: one where a run ended, none elsewhere."""
    return [(round(60 * hour), 1.0) for hour in hours]


@pytest.fixture(scope="module")
def policies() -> dict[str, Any]:
    found = resources(parse_terraform()["parsed"], "google_monitoring_alert_policy")
    assert set(found) == {"failed", "long", "old"}
    return found


def _filled(text: Any) -> str:
    known = {"local.job_name": _JOB, "var.max_hours": str(_MAX_HOURS)}
    return re.sub(r"\$\{([^}]*)\}", lambda found: known.get(found[1], found[1]), text_of(text))


def _threshold_minutes(condition: dict[str, Any], recorded: Series) -> list[int]:
    """Returns the ends of the periods whose largest value exceeds a threshold, in minutes."""
    (aggregation,) = condition["aggregations"]
    assert text_of(aggregation["per_series_aligner"]) == "ALIGN_MAX"
    assert (text_of(condition["comparison"]), text_of(condition["duration"])) == ("COMPARISON_GT", "0s")
    period = int(text_of(aggregation["alignment_period"]).removesuffix("s")) // 60
    factors = _filled(condition["threshold_value"]).replace("var.max_hours", str(_MAX_HOURS)).split(" * ")
    limit = 1.0
    for factor in factors:
        limit *= float(factor)
    wanted = dict(re.findall(r'([\w.]+) = "([^"]+)"', _filled(condition["filter"])))
    assert set(wanted) == {"resource.type", "metric.type", "resource.labels.job_name"}
    points = recorded.get((wanted["metric.type"].rpartition("/")[2], wanted["resource.labels.job_name"]), [])
    ends = {(minute // period + 1) * period for minute, value in points if value > limit}
    return sorted(ends)


@pytest.mark.parametrize(
    ("recorded", "expected"),
    [
        ({("is_failed", _JOB): [(0, 0), (1, 0)], ("elapsed_time", _JOB): _elapsed(60)}, {}),
        ({("is_failed", _JOB): [(0, 0), (14, 0), (15, 1), (16, 1)]}, {"failed": 16}),
        ({("is_failed", "other"): [(3, 1)], ("elapsed_time", "other"): _elapsed(1000)}, {}),
        ({("elapsed_time", _JOB): _elapsed(721)}, {}),  # 12 hours, and no longer
        ({("elapsed_time", _JOB): _elapsed(726)}, {"long": 730}),
        ({}, {}),
    ],
    ids=["good night", "failed", "another job", "twelve hours", "hangs", "nothing ran"],
)
def test_thresholds_fire_when_they_should(
    policies: dict[str, Any], recorded: Series, expected: dict[str, int]
) -> None:
    first = {}
    for name in ("failed", "long"):
        (condition,) = policies[name]["conditions"]
        (threshold,) = condition["condition_threshold"]
        minutes = _threshold_minutes(threshold, recorded)
        if minutes:
            first[name] = minutes[0]
    assert first == expected


# Hours at which runs ended well, and hours at which the alert on old runs is asked: whether it fires.
_ENDS = {
    "each night": ([3, 27, 51], {26: False, 50: False, 74: False}),
    "a night is missing": ([3, 27], {50: False, 56: False, 57.5: True}),
    "a backfill ends it": ([3, 27, 59], {58: True, 60: False}),
    "a late night": ([3, 32], {31: False, 33: False}),
    "two good ends": ([3, 3.5], {33: False, 34: True}),
    # From the set-up to the first good night: docs/how-to/operating.md.
    "never": ([], {1: True, 40: True}),
}


def _query(policies: dict[str, Any]) -> str:
    (condition,) = policies["old"]["conditions"]
    (query,) = condition["condition_prometheus_query_language"]
    assert text_of(query["duration"]) == "0s"
    return text_of(query["query"])


@pytest.mark.parametrize("case", _ENDS)
def test_the_alert_on_old_runs_fires_when_it_should(policies: dict[str, Any], case: str) -> None:
    """The query has one function, whose meaning is one line: no point in that many hours."""
    found = re.fullmatch(r"absent_over_time\([\w:]+\{[^}]+\}\[(\d+)h\]\)", _query(policies))
    assert found is not None
    window = 60 * int(found[1])
    ends, asked = _ENDS[case]
    for hour, fires in asked.items():
        now = 60 * hour
        assert (not [minute for minute, _ in _nights(*ends) if now - window < minute <= now]) == fires, hour


def test_prometheus_judges_it_in_the_same_way(policies: dict[str, Any], tmp_path: Path) -> None:
    """Runs the query of the alert in Prometheus' own engine."""
    promtool = os.environ.get("PROMTOOL") or shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (PROMTOOL)")
    query = _query(policies)
    series = re.findall(r"\((.*)\[", query)[0]
    rule = {"alert": "old", "expr": query}
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "g", "rules": [rule]}]}))
    tests = []
    for ends, asked in _ENDS.values():
        minutes = {round(60 * hour) for hour in ends}
        values = " ".join("1" if minute in minutes else "_" for minute in range(0, 75 * 60, 10))
        labels = {"monitored_resource": "dataflow_step"}
        tests.append(
            {
                "interval": "10m",
                "input_series": [{"series": series, "values": values}] if ends else [],
                "alert_rule_test": [
                    {
                        "eval_time": f"{round(60 * hour)}m",
                        "alertname": "old",
                        "exp_alerts": [{"exp_labels": labels}] if fires else [],
                    }
                    for hour, fires in asked.items()
                ],
            }
        )
    cases = {"rule_files": ["rules.yaml"], "evaluation_interval": "10m", "tests": tests}
    (tmp_path / "cases.yaml").write_text(yaml.safe_dump(cases))
    done = subprocess.run(
        [promtool, "test", "rules", "cases.yaml"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _camel(value: Any) -> Any:
    """Converts Terraform's names to those of the API, and its blocks of one to objects."""
    if isinstance(value, list):
        return [_camel(each) for each in value]
    if not isinstance(value, dict):
        return _filled(value) if isinstance(value, str) else value
    parts = {name.strip('"'): _camel(each) for name, each in value.items() if name[0] != "_"}
    return {re.sub(r"_(\w)", lambda m: m[1].upper(), name): each for name, each in parts.items()}


def test_alerts_are_what_cloud_monitoring_describes(policies: dict[str, Any]) -> None:
    for policy in policies.values():
        body = _camel({name: policy[name] for name in ("display_name", "combiner", "conditions")})
        for condition in body["conditions"]:
            for name in [name for name in condition if name.startswith("condition")]:
                (condition[name],) = condition[name]
            threshold = condition.get("conditionThreshold")
            if threshold is not None:
                threshold["thresholdValue"] = 0.0  # an expression in Terraform
        (documentation,) = policy["documentation"]
        body["documentation"] = _camel(documentation)
        assert not faults("monitoring.v3", "AlertPolicy", body), json.dumps(body)


def test_every_alert_has_its_runbook(policies: dict[str, Any]) -> None:
    page = (LAUNCH.parent / "docs" / "how-to" / "operating.md").read_text(encoding="utf-8")
    sections = {
        part.partition("\n")[0].lower().replace(" ", "-"): part for part in re.split(r"(?m)^## ", page)[1:]
    }
    for name, policy in policies.items():
        (documentation,) = policy["documentation"]
        runbook = sections[text_of(documentation["content"]).partition("#")[2]]
        assert re.search(r"(?m)^1\. ", runbook), name  # a first step


def test_the_alert_on_old_runs_counts_the_line_that_runs_log(policies: dict[str, Any]) -> None:
    (metric,) = resources(parse_terraform()["parsed"], "google_logging_metric").values()
    (line,) = re.findall(r'jsonPayload.message : "(.+?)"', text_of(metric["filter"]))
    sources = (LAUNCH.parent / "beam_jobs").rglob("*.py")
    assert [path for path in sources if f'_logger.info("{line}' in path.read_text(encoding="utf-8")]
    # A log-based metric of that name is called so in PromQL.
    assert f"logging_googleapis_com:user_{text_of(metric['name'])}{{" in _query(policies)
