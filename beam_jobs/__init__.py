"""Batch embedding jobs on Apache Beam: the steps, for the commands here and for other people's pipelines.

Names are imported when they are first used, since Beam takes seconds to import.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from beam_jobs.config import ReadOptions as ReadOptions
    from beam_jobs.config import WriteOptions as WriteOptions
    from beam_jobs.encode import EncodeDocuments as EncodeDocuments
    from beam_jobs.handler import BundleModelHandler as BundleModelHandler
    from beam_jobs.read import ReadDocuments as ReadDocuments
    from beam_jobs.reading.dataset import open_run as open_run
    from beam_jobs.records import DeadLetter as DeadLetter
    from beam_jobs.records import Document as Document
    from beam_jobs.settings import EncodeSettings as EncodeSettings
    from beam_jobs.starting import describe_run as describe_run
    from beam_jobs.starting import new_run as new_run
    from beam_jobs.write import RunInputs as RunInputs
    from beam_jobs.write import WriteRun as WriteRun

_HOMES = {
    "BundleModelHandler": "handler",
    "DeadLetter": "records",
    "Document": "records",
    "EncodeDocuments": "encode",
    "EncodeSettings": "settings",
    "ReadDocuments": "read",
    "ReadOptions": "config",
    "RunInputs": "write",
    "WriteOptions": "config",
    "WriteRun": "write",
    "describe_run": "starting",
    "new_run": "starting",
    "open_run": "reading.dataset",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    """Imports a public name from its module."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
