"""``{date}`` in patterns and run ids: the day of a run, known when it starts, not when scheduled."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from beam_jobs.errors import UsageError

_PLACE = re.compile(r"\{date(?P<days>[+-]\d{1,4})?(?::(?P<format>[^{}]+))?\}")
_ANY = re.compile(r"\{\s*date[^}]*\}?")


def has_date(text: str | None) -> bool:
    """Whether a pattern or id depends on the day.

    >>> has_date("gs://b/{date-1}/*.jsonl"), has_date("gs://b/*.jsonl"), has_date(None)
    (True, False, False)
    """
    return text is not None and _PLACE.search(text) is not None


def fill_dates(text: str, day: date, flag: str) -> str:
    """Puts the day into a pattern or id.

    Args:
        text: ``{date}`` is the day as 2026-11-28, ``{date-1}`` the one before, ``{date:%Y/%m/%d}`` the day in
            a form of ``strftime``.
        day: of the run.
        flag: that the text was given to, for errors.

    Raises:
        UsageError: something in it looks like a date and is none.

    >>> fill_dates("b/{date-1}/{date:%Y/%m}/*.txt", date(2026, 3, 1), "--input")
    'b/2026-02-28/2026/03/*.txt'
    """

    def filled(match: re.Match[str]) -> str:
        moved = day + timedelta(days=int(match["days"] or 0))
        return moved.strftime(match["format"]) if match["format"] else moved.isoformat()

    try:
        result = _PLACE.sub(filled, text)
    except (ValueError, OverflowError) as error:
        raise UsageError(
            f"{flag} {text}: {error}. Write {{date}}, {{date-1}} or {{date:%Y/%m/%d}}."
        ) from error
    wrong = _ANY.search(_PLACE.sub("", text))
    if wrong is not None:
        raise UsageError(
            f"{flag} {text}: {wrong[0]} is no date. Write {{date}}, {{date-1}} or {{date:%Y/%m/%d}}."
        )
    return result


def resolve_dates(
    flags: argparse.Namespace, now: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> date | None:
    """Puts the day of the run into ``--input`` and ``--run_id``, in place.

    Args:
        flags: as given; ``date`` becomes the day where one is used.
        now: the time of the start, with its zone.

    Returns:
        The day; None where nothing depends on it.

    Raises:
        UsageError: no such day or zone, or a day that nothing depends on.
    """
    zone = _zone(flags.timezone)
    named = None if flags.date is None else _day(flags.date)
    is_dated = any(has_date(text) for text in (*flags.input, flags.run_id))
    if named is not None and not is_dated:
        raise UsageError(f"--date {flags.date}: neither --input nor --run_id holds {{date}}; leave it out.")
    # Without a date only slips are found.
    day = (named or now().astimezone(zone).date()) if is_dated else date.min
    flags.input = [fill_dates(pattern, day, "--input") for pattern in flags.input]
    if flags.run_id is not None:
        flags.run_id = fill_dates(flags.run_id, day, "--run_id")
    if not is_dated:
        return None
    flags.date = day.isoformat()
    return day


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise UsageError(f"--date {text}: expected is a day such as 2026-11-28 ({error}).") from error


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise UsageError(
            f"--timezone {name}: no zone of that name is known here. Names are like UTC or Europe/Berlin."
        ) from error
