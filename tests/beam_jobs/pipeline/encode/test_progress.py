"""The line that lives: what it says, where, and that it never stands in the way of a job."""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from threading import Event, Thread

from hypothesis import given
from hypothesis import strategies as st

from beam_jobs.base import metrics
from beam_jobs.base.progress import ProgressSink, close_tally, open_tally
from beam_jobs.base.units import format_duration
from beam_jobs.job.console.console import TextConsole, fit
from beam_jobs.job.console.progress_line import LiveLine, describe

COUNTS = {
    metrics.DOCUMENTS_ENCODED: 1_000,
    metrics.TOKENS: 50_000,
    metrics.PADDED_TOKENS: 62_500,
    metrics.DOCUMENTS_DEAD: 3,
    metrics.BYTES_READ: 250,
}


class Ticks:
    """A clock that goes on when somebody waits, and tells after some waits that the job has ended."""

    def __init__(self, num_waits: int) -> None:
        self.num_waits = num_waits
        self.seconds = 0.0

    def clock(self) -> float:
        return self.seconds

    def pause(self, event: Event, seconds: float) -> bool:
        if not self.num_waits:
            return event.wait()
        self.num_waits -= 1
        self.seconds += seconds
        return False


class Terminal(io.StringIO):
    """A stream that says it is one."""

    def isatty(self) -> bool:
        return True


def test_a_line_says_how_far_a_job_is() -> None:
    line = "1,000 documents · 5,000 tokens/s · padding 20 % · 3 dead · 25 % read · 0:30 left"
    assert describe(COUNTS, 10.0, 1_000) == line


def test_time_left_is_only_told_where_the_total_is_known() -> None:
    assert describe(COUNTS, 10.0, None).endswith("3 dead")
    first = {metrics.BYTES_READ: 10, metrics.DOCUMENTS_DEAD: 1}
    assert describe(first, 10.0, 100).endswith("1 dead · 10 % read")


def test_a_job_that_counts_nothing_lives_all_the_same() -> None:
    assert describe({}, 75.0, 1_000) == "importing TensorFlow and loading the model · 1:15"
    assert describe({}, 75.0, None, "waiting for workers") == "waiting for workers · 1:15"
    read = {metrics.DOCUMENTS_READ: 1, metrics.BYTES_READ: 10}
    assert describe(read, 75.0, 100) == "1 document read, computing the first batch · 1:15"


@given(
    counts=st.dictionaries(st.sampled_from(metrics.ALL), st.integers(0, 10**12)),
    seconds=st.floats(0, 1e7),
    total=st.none() | st.integers(0, 10**12),
)
def test_whatever_has_been_counted_is_one_line(
    counts: Mapping[str, int], seconds: float, total: int | None
) -> None:
    line = describe(counts, seconds, total)
    assert line
    assert "\n" not in line


@given(seconds=st.floats(0, 1e6))
def test_a_clock_reads_back(seconds: float) -> None:
    parts = [int(part) for part in format_duration(seconds).split(":")]
    assert sum(part * 60**i for i, part in enumerate(reversed(parts))) == round(seconds)
    assert all(part < 60 for part in parts[1:])


def test_a_terminal_gets_one_line_that_changes_and_is_cleared() -> None:
    stream = Terminal()
    ticks = Ticks(2)
    with LiveLine(lambda: COUNTS, 1_000, TextConsole(stream), ticks.clock, ticks.pause):
        pass
    written = stream.getvalue()
    assert written.count("1,000 documents") == 2
    assert "\n" not in written
    assert written.endswith("\r\x1b[K")


@given(columns=st.integers(2, 120), numbers=st.lists(st.integers(0, 10**15), min_size=4, max_size=4))
def test_a_terminal_of_any_width_keeps_the_line_on_one_row(columns: int, numbers: list[int]) -> None:
    stream, ticks = Terminal(), Ticks(1)
    counts = dict(zip(COUNTS, numbers, strict=False))
    console = TextConsole(stream, columns=lambda _: columns)
    with LiveLine(lambda: counts, 1_000, console, ticks.clock, ticks.pause):
        pass
    drawn = stream.getvalue().split("\r\x1b[K")
    assert all(len(line) < columns for line in drawn)
    assert any(drawn)


@given(line=st.text("a日é\u0301·", max_size=30), columns=st.integers(0, 40))
def test_wide_characters_take_two_columns_and_accents_none(line: str, columns: int) -> None:
    shown = fit(line, columns)
    assert sum({"日": 2, "\u0301": 0}.get(character, 1) for character in shown) <= columns
    assert shown == line or shown in ("", "…") or line.startswith(shown.removesuffix("…"))


def test_a_message_clears_the_live_line_first() -> None:
    stream = Terminal()
    console = TextConsole(stream)
    console.draw("importing Apache Beam")
    console.print("warning", "beware")
    assert stream.getvalue() == "\r\x1b[Kimporting Apache Beam\r\x1b[Kwarning: beware\n"


def test_a_reader_that_has_gone_does_not_end_a_job() -> None:
    class Gone(io.StringIO):
        """A pipe that nobody reads."""

        def flush(self) -> None:
            raise BrokenPipeError

    console = TextConsole(Gone())
    console.print("warning", "beware")
    console.draw("a line")


def test_elsewhere_there_are_plain_lines() -> None:
    stream = io.StringIO()
    ticks = Ticks(2)
    with LiveLine(lambda: COUNTS, 1_000, TextConsole(stream), ticks.clock, ticks.pause):
        pass
    lines = stream.getvalue().splitlines()
    assert [line.partition(" tokens/s")[0] for line in lines] == [
        "1,000 documents · 833",
        "1,000 documents · 417",
    ]
    assert "\r" not in stream.getvalue()
    assert all("1,000 documents" in line for line in lines)


def test_a_short_job_says_nothing_in_a_log() -> None:
    stream = io.StringIO()
    with LiveLine(lambda: COUNTS, 1_000, TextConsole(stream)):
        pass
    assert stream.getvalue() == ""


def test_steps_count_where_somebody_watches_and_nowhere_else() -> None:
    sink = pickle.loads(pickle.dumps(ProgressSink("job")))
    sink.add("read_documents", 1)
    tally = open_tally("job")
    try:
        threads = [
            Thread(target=lambda: [sink.add("read_documents", 1) for _ in range(1000)]) for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert tally.read() == {"read_documents": 8000}
    finally:
        close_tally("job")
    sink.add("read_documents", 1)
    assert tally.read() == {"read_documents": 8000}
