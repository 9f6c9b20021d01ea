"""Scans somebody else's SavedModel before TensorFlow loads it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from model_bundle.bundle.graph_scan.scan import scan_saved_model
from model_bundle.errors import SourceError
from model_bundle.runtime.tensorflow_setup import import_tensorflow


def scan_source(directory: Path, what: str, allow_ops: Sequence[str] = ()) -> tuple[str, ...]:
    """Reads a SavedModel, in either of its forms, and scans it; nothing of it is loaded.

    Args:
        directory: holds ``saved_model.pb`` or ``saved_model.pbtxt``.
        what: what to call the model in an error.
        allow_ops: operations that are accepted by name.

    Returns:
        Those of ``allow_ops`` that the model can run, for ``BundleManifest.allowed_ops``.

    Raises:
        SourceError: there is no SavedModel that can be read.
        ForbiddenOperationError: it could do more than compute. See ``scan_saved_model``.
    """
    return scan_saved_model(read_source(directory), what, allow_ops)


def read_source(directory: Path) -> Any:
    """Reads the message in ``saved_model.pb`` or ``saved_model.pbtxt``, as TensorFlow will.

    Raises:
        SourceError: neither is there, or it is damaged.
    """
    import_tensorflow()
    from tensorflow.python.saved_model import loader_impl

    try:
        return loader_impl.parse_saved_model(str(directory))
    except OSError as error:
        first_line = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise SourceError(f"{directory} holds no SavedModel that can be read: {first_line}.") from error
