"""Receipts: what a worker reports about a shard it wrote."""

from __future__ import annotations

from dataclasses import dataclass, field

# An empty file in the staging folder: this, and the sha256 of a shard that was closed.
CLOSED_PREFIX = "closed-"
# Work between two points in time: start and end in nanoseconds since the epoch, documents, tokens.
WorkInterval = tuple[int, int, int, int]


@dataclass(frozen=True)
class Receipt:
    """A worker's report about a shard it wrote; the run's counts come from receipts alone.

    ``kind`` is the folder of the shard. ``opened_at`` orders shards in time. ``counts`` are sums over its
    rows: documents, tokens, truncated documents, dead letters by reason, cost. ``peak_memory_bytes`` is the
    peak of the worker process, ``ready_milliseconds`` its model load time; 0 if unknown. ``work`` says when
    the rows were computed, ``machine`` and ``process`` (host and process id) where.
    """

    kind: str
    path: str
    num_rows: int
    num_bytes: int
    sha256: str
    opened_at: int
    precision: str | None
    counts: dict[str, int] = field(default_factory=dict)
    peak_memory_bytes: int = 0
    ready_milliseconds: int = 0
    work: tuple[WorkInterval, ...] = ()
    machine: str = ""
    process: str = ""
