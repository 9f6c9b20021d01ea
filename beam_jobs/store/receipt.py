"""What a worker reports of a shard it wrote."""

from __future__ import annotations

from dataclasses import dataclass, field

# Work between two moments: nanoseconds since the epoch, documents, tokens.
WorkInterval = tuple[int, int, int, int]


@dataclass(frozen=True)
class Receipt:
    """What a worker says of a shard it wrote, and all that the run believes.

    ``kind`` is the folder the shard goes to. ``opened_at`` orders shards in time. ``counts`` are sums over
    its rows: documents, tokens, truncated documents, dead letters by reason, cost. ``peak_memory_bytes`` is
    the most its process ever had, ``ready_milliseconds`` what loading the model took there; 0 if not known.
    ``work`` says when it was made, ``machine`` where.
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
