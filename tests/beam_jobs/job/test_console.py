"""What a job says: lines for people, one JSON object per line for schedulers, and where else to look."""

from __future__ import annotations

import io
import json
import logging
import re
import signal
import socket
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from apache_beam.metrics.execution import MetricKey, MetricResult
from apache_beam.metrics.metricbase import MetricName
from apache_beam.options.pipeline_options import PipelineOptions

from beam_jobs.base import metrics
from beam_jobs.job.console.console import JsonConsole, TextConsole
from beam_jobs.job.console.log_capture import open_console, severity_of
from beam_jobs.job.console.progress_line import LiveLine
from beam_jobs.job.console.runner_metrics import RunnerMetrics, WrittenFiles, format_counters, monitoring_hint
from beam_jobs.job.flags.parsers import embed_parser
from beam_jobs.job.launch import launch_job
from beam_jobs.pipeline.rows.cost import encoded_counts
from beam_jobs.store.manifest import RunCounts
from model_bundle.inference.results import EncodedTexts, TextFailure
from tests.beam_jobs.pipeline.encode.test_progress import Ticks
from tests.support.runs.jobs import run_job, start_job, write_jsonl, write_texts

KEYS = ["time", "severity", "message", "run_id", "attempt", "worker", "event"]


def said(text: str) -> list[dict[str, Any]]:
    """Parses every line, whoever wrote it."""
    objects = [json.loads(line) for line in text.splitlines()]
    for one in objects:
        assert list(one)[: len(KEYS)] == KEYS
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", one["time"])
        assert one["severity"] in ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
    return objects


# In a process of its own; what the lines hold is tested every time below.
@pytest.mark.slow
def test_a_json_job_says_nothing_else(tiny_bundle: Path, tmp_path: Path) -> None:
    source = write_texts(tmp_path / "in.jsonl", ["the cat " * 50, "a dog"])
    flags = ["--input", source, "--log_format", "json", "--run_id", "run"]
    job = start_job(tmp_path / "out", tiny_bundle, *flags)
    stdout, stderr = job.communicate(timeout=100)
    assert (job.returncode, stdout) == (0, ""), stderr
    objects = said(stderr)
    assert [one["event"] for one in objects if one["event"] != "log"] == ["plan", "summary"]
    assert {one["run_id"] for one in objects} == {"run"}
    manifest = json.loads((tmp_path / "out" / "run" / "manifest.json").read_text())
    assert {one["attempt"] for one in objects} == {manifest["attempt_id"]}
    assert {one["worker"] for one in objects} == {f"{socket.gethostname()}/{job.pid}"}
    summary = objects[-1]
    assert summary["severity"] == "INFO"
    assert summary["run"] == str(tmp_path / "out" / "run")
    assert summary["failure"] is None
    assert summary["message"].startswith("Run finished: ")
    counts = RunCounts.model_validate(summary["counters"])
    assert (counts.num_written, counts.num_truncated, counts.num_lost_tokens) == (2, 1, 38)


def test_what_went_wrong_is_the_last_object(tiny_bundle: Path, tmp_path: Path) -> None:
    source = write_texts(tmp_path / "in.jsonl", ["the cat " * 50])
    flags = ["--input", source, "--log_format=json", "--on_long", "dead_letter"]
    run = run_job(tmp_path / "out", tiny_bundle, *flags)
    assert run.exit_code == 3
    *_, summary, error = said("".join(line for line in run.stderr.splitlines(True) if line[0] == "{"))
    assert (summary["event"], summary["severity"]) == ("summary", "ERROR")
    assert summary["failure"] == error["message"]
    assert (error["event"], error["severity"], error["exit_code"]) == ("error", "ERROR", 3)
    assert error["run_id"] == "run"
    wrong = run_job(tmp_path / "out", tiny_bundle, "--input", source, "--log_format", "json", "--inptu", "x")
    (error,) = said(wrong.stderr)
    assert (error["event"], error["exit_code"], error["run_id"]) == ("error", 2, None)
    assert "--inptu" in error["message"]


def test_a_format_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for argv in (["--log_format", "xml"], ["--log_format"]):
        assert launch_job(embed_parser(), argv) == 2
        assert "error: argument --log_format: " in capsys.readouterr().err


@pytest.mark.slow
def test_a_signal_is_said_in_json_too(tiny_bundle: Path, tmp_path: Path) -> None:
    source = write_texts(tmp_path / "in.jsonl", ["the cat sat on the mat"] * 300_000)
    job = start_job(tmp_path / "out", tiny_bundle, "--input", source, "--log_format", "json")
    deadline = time.monotonic() + 100
    while not [*tmp_path.glob("out/*/_*")] and time.monotonic() < deadline:
        time.sleep(0.1)
    job.send_signal(signal.SIGTERM)
    _, stderr = job.communicate(timeout=60)
    assert job.returncode == 143
    last = said(stderr)[-1]
    assert (last["event"], last["severity"]) == ("stopped", "ERROR")
    assert last["message"].startswith("Stopped by SIGTERM.")


def test_logs_warnings_and_prints_become_objects(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    with open_console(["--input", "x", "--log_format", "json"]) as console:
        console.run_id = "r"
        logging.getLogger("apache_beam").warning("two\nlines of %s", "a log")
        logging.getLogger("apache_beam").info("too little to say")
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("beware", UserWarning, stacklevel=1)
        print("half a ", end="", file=sys.stderr)
        print("line\n\nand \ud800", file=sys.stderr)
    assert (root.handlers, root.level) == before
    log, warning, line, other = said(capsys.readouterr().err)
    assert (log["severity"], log["message"], log["logger"]) == (
        "WARNING",
        "two\nlines of a log",
        "apache_beam",
    )
    assert "UserWarning: beware" in warning["message"]
    assert (line["event"], line["message"], line["run_id"]) == ("output", "half a line", "r")
    assert other["message"] == "and \ud800"


def test_what_nobody_foresaw_is_said_with_its_trace(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise ZeroDivisionError("nobody divides by that")

    with pytest.raises(SystemExit, match="1"), open_console(["--log_format", "json"]):
        fail()
    (error,) = said(capsys.readouterr().err)
    assert (error["event"], error["severity"], error["exit_code"]) == ("error", "CRITICAL", 1)
    assert error["message"] == "ZeroDivisionError: nobody divides by that"
    assert "in fail" in error["stack_trace"]


def test_severities_are_those_of_the_levels() -> None:
    levels = [5, logging.DEBUG, logging.INFO, 25, logging.WARNING, logging.ERROR, logging.CRITICAL, 99]
    expected = ["DEBUG", "DEBUG", "INFO", "INFO", "WARNING", "ERROR", "CRITICAL", "CRITICAL"]
    assert [severity_of(level) for level in levels] == expected


def test_progress_tells_its_counters() -> None:
    stream = io.StringIO()
    ticks = Ticks(1)
    with LiveLine(lambda: {metrics.DOCUMENTS_ENCODED: 7}, 100, JsonConsole(stream), ticks.clock, ticks.pause):
        pass
    (first,) = said(stream.getvalue())
    assert (first["event"], first["counters"], first["total_bytes"]) == (
        "progress",
        {"encoded_documents": 7},
        100,
    )
    assert first["elapsed_seconds"] == 60
    assert first["message"].startswith("7 documents")


def test_without_counts_the_live_line_says_what_is_written(tmp_path: Path) -> None:
    written = WrittenFiles(str(tmp_path))
    assert written() == "waiting for workers"
    (tmp_path / "_staging").mkdir()
    (tmp_path / "_staging" / "a.parquet").write_bytes(bytes(2000))
    (tmp_path / "_staging" / "attempt").write_bytes(b"1")
    assert written() == "waiting for workers"  # listed a moment ago
    stream = io.StringIO()
    ticks = Ticks(1)
    with LiveLine(dict, None, JsonConsole(stream), ticks.clock, ticks.pause, WrittenFiles(str(tmp_path))):
        pass
    (line,) = said(stream.getvalue())
    assert line["message"] == "1 file written, 2.0 kB; the runner reports no counts · 1:00"


def test_text_speaks_of_warnings_and_errors_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    console = TextConsole()
    console.print("warning", "beware", "WARNING")
    console.print("error", "it ended", "ERROR", {"exit_code": 1})
    console.print("summary", "Run finished")
    shown = capsys.readouterr()
    assert shown.err == "warning: beware\nerror: it ended\n"
    assert shown.out == "Run finished\n"


class Remote:
    """A job on a runner that keeps its first answer, as Beam's portable ones do."""

    def __init__(self) -> None:
        self.asked = 0
        self._kept: Any = None
        self.now = {"encoded_documents": 1}

    def metrics(self) -> Any:
        if self._kept is None:
            self._kept = _Counters(self.now)
        return self._kept

    def job_id(self) -> str:
        return "2026-11-21_job"


class _Counters:
    def __init__(self, counts: dict[str, int]) -> None:
        self._found = [
            MetricResult(MetricKey(step, MetricName(space, name)), count, count)
            for step in ("Read", "Encode")
            for space in (metrics.NAMESPACE, "another")
            for name, count in counts.items()
        ]

    def query(self) -> dict[str, list[Any]]:
        return {"counters": self._found}


def test_counts_of_a_runner_are_those_of_now_not_its_first_answer() -> None:
    job = Remote()
    counts = RunnerMetrics(job)
    assert counts() == {"encoded_documents": 2}
    job.now = {"encoded_documents": 5}
    assert counts() == {"encoded_documents": 2}  # it is not asked all the time
    assert counts.ask() == {"encoded_documents": 10}
    job.metrics = None  # type: ignore[method-assign,assignment]  # a runner that fails when asked
    assert counts.ask() == {"encoded_documents": 10}


@pytest.mark.parametrize(
    ("flags", "place"),
    [
        (
            ["--runner=DataflowRunner", "--project=p", "--region=r"],
            "https://console.cloud.google.com/dataflow/jobs/r/2026-11-21_job?project=p.",
        ),
        (["--runner=FlinkRunner", "--flink_master=host:8081"], "in Flink's dashboard at http://host:8081."),
        (["--runner=FlinkRunner"], "in the runner's own page or log."),
        (["--runner=PortableRunner"], "PortableRunner are other processes"),
        (
            ["--runner=apache_beam.runners.FnApiRunner"],
            "monitor them in their logs.",
        ),
    ],
)
def test_where_workers_are_elsewhere_one_line_says_where_to_look(flags: list[str], place: str) -> None:
    line = monitoring_hint(PipelineOptions(flags), Remote())
    assert place in line
    assert "\n" not in line


def test_counters_stand_in_the_order_of_their_table() -> None:
    assert (
        format_counters({"encoded_tokens": 1200, "input_bytes": 7}) == "input_bytes 7, encoded_tokens 1,200"
    )
    assert format_counters({}) == "the runner reports none"


def test_counted_is_what_came_out_alive() -> None:
    encoded = EncodedTexts(
        vectors={},
        row_texts=np.arange(3),
        words=None,
        num_tokens=np.array([4, 8, 8]),
        num_tokens_untruncated=np.array([4, 20, 30]),
        num_padded_tokens=24,
        failures=[TextFailure(2, "non_finite", "")],
    )
    assert encoded_counts(encoded, 15) == {
        "encoded_documents": 2,
        "encoded_tokens": 12,
        "padded_tokens": 24,
        "truncated_documents": 1,
        "lost_tokens": 12,
        "encoded_windows": 0,
        "model_milliseconds": 15,
    }


@pytest.mark.slow
def test_a_portable_runner_tells_its_counts_at_the_end(tiny_bundle: Path, tmp_path: Path) -> None:
    source = write_jsonl(tmp_path / "in.jsonl", [{"text": "the cat sat"}] * 50 + [{"text": 7}, {"text": " "}])
    allowed = ["--rows", "window", "--max_dead_fraction", 0.5]
    portable = ["--runner", "PortableRunner", "--job_endpoint=embed", "--environment_type=LOOPBACK"]
    run = run_job(tmp_path / "out", tiny_bundle, "--input", source, *portable, *allowed)
    assert run.exit_code == 0, run.stderr
    assert "The workers of PortableRunner are other processes" in run.stderr
    line = next(line for line in run.stderr.splitlines() if line.startswith("metrics: "))
    assert "read_documents 52, encoded_documents 50, dead_documents 2, encoded_tokens 250," in line
    assert "encoded_windows 50" in line
