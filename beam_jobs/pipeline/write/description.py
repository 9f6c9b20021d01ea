"""A run that is about to start: its name, and what its manifest will say of it."""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from beam_jobs.base.config import Limits, WriteOptions
from beam_jobs.pipeline.settings import EncodeSettings
from beam_jobs.pipeline.write.commit import RunDescription
from beam_jobs.store.manifest import CLASSES, EMBEDDINGS

_VERSIONS = ("apache-beam", "pyarrow", "numpy", "tensorflow", "tokenizers")


def new_run(output: str, run_id: str | None = None, **options: Any) -> WriteOptions:
    """Names a run below ``output``.

    Args:
        output: root of the runs, local or gs://.
        run_id: the run's folder; None makes one that sorts by time.
        options: further fields of ``WriteOptions``.

    Raises:
        UsageError: an option that cannot be meant.
    """
    now = datetime.now(UTC)
    return WriteOptions(
        output=absolute(output),
        run_id=run_id or f"{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}",
        attempt_id=uuid.uuid4().hex,
        **options,
    )


def describe_run(
    settings: EncodeSettings, limits: Limits | None = None, config: Mapping[str, Any] | None = None
) -> RunDescription:
    """Returns what the manifest says of a run that starts now.

    Args:
        settings: of the encoding step.
        limits: how much may fail; None allows nothing.
        config: plain JSON data, kept as it is.
    """
    return RunDescription(
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
        bundle=_bundle(settings),
        settings_digest=settings.digest,
        settings=settings.relevant,
        precision=str(settings.request.precision),
        config=dict(config or {}),
        limits=limits or Limits(),
        versions={name: version(name) for name in _VERSIONS},
        kind=EMBEDDINGS if settings.classes is None else CLASSES,
    )


def _bundle(settings: EncodeSettings) -> dict[str, Any]:
    known = {"name": settings.bundle_name, "digest": settings.bundle_digest, "place": settings.bundle}
    return known if settings.classes is None else known | {"labels": list(settings.classes.names)}


def absolute(path: str) -> str:
    """Makes a local path independent of where a worker runs."""
    return path if "://" in path else str(Path(path).absolute())
