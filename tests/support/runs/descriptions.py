"""What a run says of itself, for tests that write one without a job."""

from __future__ import annotations

from beam_jobs.base.config import FailureLimits
from beam_jobs.pipeline.write.description import RunDescription


def description(limits: FailureLimits | None = None) -> RunDescription:
    """Returns the description of a run of a bundle named tiny."""
    return RunDescription(
        started_at="2026-01-01T00:00:00+00:00",
        bundle={"name": "tiny", "digest": "0" * 64},
        settings_digest="1" * 64,
        precision="float32",
        config={},
        limits=limits or FailureLimits(),
        versions={},
    )
