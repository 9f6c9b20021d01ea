"""Batch embedding jobs on Apache Beam: the transforms behind the commands, for use in any pipeline.

Names are imported on first use, because importing Beam takes seconds.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from model_bundle import __version__ as __version__

if TYPE_CHECKING:
    from beam_jobs.base.config import ReadOptions as ReadOptions
    from beam_jobs.base.config import WriteOptions as WriteOptions
    from beam_jobs.base.records import DeadLetter as DeadLetter
    from beam_jobs.base.records import Document as Document
    from beam_jobs.pipeline.encode.run_inference import BundleModelHandler as BundleModelHandler
    from beam_jobs.pipeline.encode.transform import EncodeDocuments as EncodeDocuments
    from beam_jobs.pipeline.read.transform import ReadDocuments as ReadDocuments
    from beam_jobs.pipeline.settings import EncodeSettings as EncodeSettings
    from beam_jobs.pipeline.write.description import describe_run as describe_run
    from beam_jobs.pipeline.write.description import new_run as new_run
    from beam_jobs.pipeline.write.transform import RunInputs as RunInputs
    from beam_jobs.pipeline.write.transform import WriteRun as WriteRun
    from beam_jobs.store.dataset import open_run as open_run

_MODULES = {
    "BundleModelHandler": "pipeline.encode.run_inference",
    "DeadLetter": "base.records",
    "Document": "base.records",
    "EncodeDocuments": "pipeline.encode.transform",
    "EncodeSettings": "pipeline.settings",
    "ReadDocuments": "pipeline.read.transform",
    "ReadOptions": "base.config",
    "RunInputs": "pipeline.write.transform",
    "WriteOptions": "base.config",
    "WriteRun": "pipeline.write.transform",
    "describe_run": "pipeline.write.description",
    "new_run": "pipeline.write.description",
    "open_run": "store.dataset",
}
__all__ = sorted(_MODULES)


def __getattr__(name: str) -> Any:
    """Imports a public name from its module."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
