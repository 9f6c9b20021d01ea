"""Batch input for Beam steps: bounded, in the one global window, and outputs put back into it."""

from __future__ import annotations

from typing import Any

import apache_beam as beam
from apache_beam.transforms.window import GlobalWindow, GlobalWindows
from apache_beam.utils.windowed_value import WindowedValue

from beam_jobs.errors import UsageError


def require_batch(collection: Any, step: str) -> None:
    """Rejects unbounded or windowed input.

    Raises:
        UsageError: with the way to one global window.
    """
    if not collection.is_bounded:
        raise UsageError(
            f"{step} needs bounded input, because a run ends with a manifest. Read from files or a table."
        )
    if not isinstance(collection.windowing.windowfn, GlobalWindows):
        raise UsageError(
            f"{step} needs its input in the global window, not {collection.windowing.windowfn}; "
            "insert beam.WindowInto(beam.window.GlobalWindows()) before it."
        )


def in_global_window(output: Any) -> Any:
    """Wraps an output, tagged or not, as Beam requires in ``finish_bundle``."""
    if isinstance(output, beam.pvalue.TaggedOutput):
        return beam.pvalue.TaggedOutput(output.tag, in_global_window(output.value))
    return WindowedValue(output, GlobalWindow().max_timestamp(), (GlobalWindow(),))
