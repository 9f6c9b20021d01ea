"""``StopWhenEnded``: work on a run that has ended already is not done again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import apache_beam as beam

from beam_jobs.base.config import WriteOptions
from beam_jobs.base.worker_log import name_run_in_logs
from beam_jobs.store.run_folder import has_ended


class StopWhenEnded(beam.PTransform):  # type: ignore[misc]  # Beam is not typed
    """Passes elements on, or drops them once the job has written its manifest.

    Some engines run a whole job again after it has succeeded, when they lose a worker late. Then the commit
    returns the manifest that is there, whatever arrives, and what is dropped here costs no work. Should that
    manifest be gone by then, the counts do not add up, and the run fails.

    Args:
        options: the run.
    """

    def __init__(self, options: WriteOptions) -> None:
        super().__init__()
        self._options = options

    def expand(self, elements: Any) -> Any:
        """Builds the step; the elements keep their type."""
        return elements | "Drop" >> beam.ParDo(_StopDoFn(self._options))


class _StopDoFn(beam.DoFn):  # type: ignore[misc]  # Beam is not typed
    """Looks for the manifest once per Beam bundle."""

    def __init__(self, options: WriteOptions) -> None:
        self._options = options

    def setup(self) -> None:
        name_run_in_logs(self._options)

    def start_bundle(self) -> None:
        self._has_ended = has_ended(self._options)

    def process(self, element: Any) -> Iterator[Any]:
        if not self._has_ended:
            yield element
