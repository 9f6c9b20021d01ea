"""``StopAfterDead``: ends a job early when too many documents become dead letters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import apache_beam as beam

from beam_jobs.base.config import FailureLimits, WriteOptions
from beam_jobs.base.progress import open_tally
from beam_jobs.base.records import DeadLetter, Document
from beam_jobs.base.units import count
from beam_jobs.errors import TooManyDeadError
from beam_jobs.pipeline.rows.schema import DEAD_LETTER_SCHEMA, dead_letter_batch
from beam_jobs.pipeline.write.shard import Shard
from beam_jobs.store import filesystem
from beam_jobs.store.manifest import DEAD_LETTERS, STAGING_DIR

# A fraction says nothing about the first documents: it is taken of at least this many.
MIN_READ = 1_000
# Dead letters written when a job ends, by number and size of their texts.
_SHOWN_LETTERS = 1_000
_SHOWN_BYTES = 16_000_000
# What the error begins with, by which it is known behind a runner's own words.
STOPPED_EARLY = "Stopped early: "
_READ, _DEAD = "read", "dead"


def tally_name(options: WriteOptions) -> str:
    """Returns the name of a job's counts in a worker process."""
    return f"{options.attempt_id}/dead_limit"


class CountRead(beam.PTransform):  # type: ignore[misc]  # Beam is not typed
    """Passes documents on and counts them for ``StopAfterDead``; needed for a fraction alone.

    Args:
        options: the run.
    """

    def __init__(self, options: WriteOptions) -> None:
        super().__init__()
        self._tally = tally_name(options)

    def expand(self, documents: Any) -> Any:
        """Builds the step."""
        return documents | "Count" >> beam.ParDo(_CountDoFn(self._tally))  # PCollection[Document]


class StopAfterDead(beam.PTransform):  # type: ignore[misc]  # Beam is not typed
    """Passes dead letters on, until a worker process has seen too many; then the job fails.

    The last dead letters are written to ``_staging/`` first. The run has no manifest, because most of its
    documents were not read; rows in closed files are reused when it is repeated.

    Args:
        options: the run.
        limits: what to count, and how much is too much.

    Raises (while running):
        TooManyDeadError: with the reasons and where the dead letters are.
    """

    def __init__(self, options: WriteOptions, limits: FailureLimits) -> None:
        super().__init__()
        self._options, self._limits = options, limits

    def expand(self, dead_letters: Any) -> Any:
        """Builds the step."""
        return dead_letters | "Stop" >> beam.ParDo(
            _StopDoFn(self._options, self._limits)
        )  # PCollection[DeadLetter]


class _CountDoFn(beam.DoFn):  # type: ignore[misc]  # Beam is not typed
    def __init__(self, tally: str) -> None:
        self._name = tally

    def setup(self) -> None:
        self._tally = open_tally(self._name)

    def process(self, document: Document) -> Iterator[Document]:
        self._tally.add(_READ, 1)
        yield document


class _StopDoFn(beam.DoFn):  # type: ignore[misc]  # Beam is not typed
    """Counts dead letters of finished Beam bundles and of its own: one that is repeated counts once."""

    def __init__(self, options: WriteOptions, limits: FailureLimits) -> None:
        assert limits.stop_after_dead is not None
        self._options, self._limit, self._blank_counts = options, limits.stop_after_dead, limits.fail_on_blank

    def setup(self) -> None:
        self._tally = open_tally(tally_name(self._options))

    def start_bundle(self) -> None:
        self._reasons: Counter[str] = Counter()
        self._letters: list[DeadLetter] = []
        self._num_bytes = self._num_unread = 0

    def process(self, letter: DeadLetter) -> Iterator[DeadLetter]:
        if letter.reason != "blank_text" or self._blank_counts:
            self._reasons[letter.reason] += 1
            self._num_unread += letter.stage == "read"
            self._keep(letter)
            self._check()
        yield letter

    def finish_bundle(self) -> None:
        self._tally.add(_DEAD, self._reasons.total())
        self._tally.add(_READ, self._num_unread)

    def _keep(self, letter: DeadLetter) -> None:
        self._num_bytes += len(letter.text or "")
        if len(self._letters) < _SHOWN_LETTERS and self._num_bytes <= _SHOWN_BYTES:
            self._letters.append(letter)

    def _check(self) -> None:
        counts = self._tally.read()
        num_dead = counts.get(_DEAD, 0) + self._reasons.total()
        num_read = counts.get(_READ, 0) + self._num_unread
        if num_dead <= (self._limit if self._limit >= 1 else self._limit * max(num_read, MIN_READ)):
            return
        root = filesystem.join(self._options.output, self._options.run_id)
        staging = filesystem.join(root, STAGING_DIR)
        shard = Shard(staging, DEAD_LETTERS, DEAD_LETTER_SCHEMA)
        shard.write(dead_letter_batch(self._letters))
        shard.close(None)
        reasons = ", ".join(f"{number:,} {reason}" for reason, number in self._reasons.most_common())
        of_read = "" if self._limit >= 1 else f" of {count(num_read, 'document')} read so far"
        raise TooManyDeadError(
            f"{STOPPED_EARLY}{count(num_dead, 'dead letter')}{of_read} (the last: {reasons}) are more than "
            f"--stop_after_dead {self._limit} allows. The run has no manifest. Look at them: duckdb -c "
            f"\"SELECT * FROM '{filesystem.join(staging, 'dead_letters-*.parquet')}'\""
        )
