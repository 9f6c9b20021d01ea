"""Days in patterns and ids, days without files, retries of what is done, switches with values."""

from __future__ import annotations

import argparse
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from beam_jobs.errors import UsageError
from beam_jobs.job.flags.dates import fill_dates, has_date, resolve_dates
from beam_jobs.job.flags.parsers import embed_parser
from tests.support.runs.jobs import run_job, write_texts


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("in/{date}/*.txt", "in/2026-03-01/*.txt"),
        ("in/{date-1}.txt", "in/2026-02-28.txt"),
        ("in/{date+1:%d.%m.%Y}.txt", "in/02.03.2026.txt"),
        ("in/{date:%Y/%m/%d}/{date-365}", "in/2026/03/01/2025-03-01"),
        ("in/{other}/*.txt", "in/{other}/*.txt"),
    ],
)
def test_the_day_of_the_run_is_filled_in(text: str, filled: str) -> None:
    assert fill_dates(text, date(2026, 3, 1), "--input") == filled


@pytest.mark.parametrize("text", ["{date -1}", "{date-x}", "{dates}", "{date", "{ date }", "{date:}"])
def test_what_is_nearly_a_date_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"Write \{date\}, \{date-1\}"):
        fill_dates(f"in/{text}", date(2026, 3, 1), "--input")


def _flags(*args: str) -> argparse.Namespace:
    return embed_parser().parse_args(list(args))


def test_today_is_that_of_the_zone() -> None:
    def late() -> datetime:
        return datetime(2026, 3, 1, 23, 30, tzinfo=UTC)

    for zone, day in [
        ("UTC", "2026-03-01"),
        ("Europe/Berlin", "2026-03-02"),
        ("America/New_York", "2026-03-01"),
    ]:
        flags = _flags("--input", "in/{date}/*", "out", "--run_id", "night-{date:%Y%m%d}", "--timezone", zone)
        assert resolve_dates(flags, late) == date.fromisoformat(day)
        assert flags.input == [f"in/{day}/*", "out"]
        assert (flags.run_id, flags.date) == (f"night-{day.replace('-', '')}", day)


def test_a_day_can_be_named() -> None:
    flags = _flags("--run_id", "{date}", "--date", "2025-12-31")
    assert resolve_dates(flags) == date(2025, 12, 31)
    assert flags.run_id == "2025-12-31"


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--date", "2025-12-31"], "neither --input nor --run_id holds {date}"),
        (["--date", "31.12.2025", "--run_id", "{date}"], "expected is a day such as"),
        (["--timezone", "Mars/Olympus"], "no zone of that name"),
        (["--timezone", "../../etc/passwd"], "no zone of that name"),
        (["--input", "in/{date-}/*"], r"{date-} is no date"),
    ],
)
def test_days_that_cannot_be_meant_are_refused(args: list[str], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        resolve_dates(_flags(*args))
    assert said in str(caught.value)


def test_without_a_date_nothing_changes() -> None:
    flags = _flags("--input", "in/*.txt", "--run_id", "fixed")
    assert resolve_dates(flags) is None
    assert (flags.input, flags.run_id, flags.date) == (["in/*.txt"], "fixed", None)
    assert not has_date(flags.run_id)


def test_a_retry_of_the_scheduler_neither_fails_nor_doubles(tiny_bundle: Path, tmp_path: Path) -> None:
    write_texts(tmp_path / "2026-01-02.jsonl", ["the cat sat", "a dog ran"])
    flags = ("--input", str(tmp_path / "{date-1}.jsonl"), "--date", "2026-01-03")
    first = run_job(tmp_path / "out", tiny_bundle, *flags, run_id="night-{date}")
    assert first.exit_code == 0, first.stderr
    files = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert (tmp_path / "out" / "night-2026-01-03" / "manifest.json") in files
    again = run_job(tmp_path / "out", tiny_bundle, *flags, run_id="night-{date}")
    assert again.exit_code == 0
    assert "was finished before" in again.stdout + again.stderr
    assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()} == files
    # An id that was written out is one of a person, who should know.
    named = run_job(tmp_path / "out", tiny_bundle, *flags, run_id="night-2026-01-03")
    assert named.exit_code == 2


def test_a_day_without_files_fails_unless_it_may_not(tiny_bundle: Path, tmp_path: Path) -> None:
    write_texts(tmp_path / "other.jsonl", ["the cat sat"])
    missing = ("--input", str(tmp_path / "{date}.jsonl"), "--date", "2026-01-03")
    failed = run_job(tmp_path / "out", tiny_bundle, *missing)
    assert failed.exit_code == 2
    assert "No file matches" in failed.stderr
    fine = run_job(tmp_path / "out", tiny_bundle, *missing, "--on_no_input", "succeed")
    assert fine.exit_code == 0
    assert not (tmp_path / "out").exists()
    # Where other patterns match, texts would be missing without a word.
    both = (*missing[:2], str(tmp_path / "other.jsonl"), *missing[2:])
    partly = run_job(tmp_path / "out", tiny_bundle, *both, "--on_no_input", "succeed")
    assert partly.exit_code == 2
    assert "Other patterns match 1 file." in partly.stderr


def test_templates_give_switches_a_value() -> None:
    flags = _flags("--keep_text=true", "--no_report=False", "--dedupe")
    assert (flags.keep_text, flags.no_report, flags.dedupe) == (True, False, True)
    with pytest.raises(UsageError, match="--keep_text=yes: expected true or false"):
        _flags("--keep_text=yes")


@pytest.mark.parametrize("flag", ["--bundle_store=gs://b/x", "--bundle_in_image"])
def test_flags_for_workers_elsewhere_are_refused_here(flag: str, tiny_bundle: Path, tmp_path: Path) -> None:
    done = run_job(tmp_path / "out", tiny_bundle, flag)
    assert done.exit_code == 2
    assert "is for remote workers" in done.stderr
