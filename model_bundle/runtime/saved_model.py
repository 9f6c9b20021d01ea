"""The one door to TensorFlow's loader of SavedModels: nothing passes that has not been scanned."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from model_bundle.bundle.graph_scan.proto import read_saved_model
from model_bundle.bundle.graph_scan.scan import scan_saved_model
from model_bundle.bundle.manifest import SAVED_MODEL_DIR, BundleManifest
from model_bundle.errors import MissingExtraError
from model_bundle.runtime.tensorflow_setup import import_tensorflow

# Packages that register operations, by the extra that installs them.
_EXTRAS = {"tensorflow_text": "text"}


def load_saved_model(
    bundle_dir: Path, manifest: BundleManifest, allow_ops: Sequence[str] = (), *, has_weights: bool = True
) -> Any:
    """Loads ``saved_model/`` of a bundle; the result has ``signatures``.

    Args:
        bundle_dir: the bundle.
        manifest: its manifest. The operations that it calls allowed count for nothing here.
        allow_ops: operations that its graph may use although they reach beyond it.
        has_weights: False leaves variables undefined, for those who have their values elsewhere.

    Raises:
        ForbiddenOperationError: the graph can do more than compute. See ``scan_saved_model``.
        MissingExtraError: the graph needs operations of a package that is not installed.
    """
    directory = bundle_dir / SAVED_MODEL_DIR
    saved_model = read_saved_model(directory)
    scan_saved_model(saved_model, f"The model {manifest.name}", allow_ops)  # before TensorFlow is imported
    import_tensorflow()
    import_custom_ops(manifest.custom_ops, manifest.name)
    return _load(directory, None, has_weights=has_weights)


def load_source(
    directory: Path, saved_model: Any, what: str, allow_ops: Sequence[str], tags: Sequence[str] | None
) -> tuple[Any, tuple[str, ...]]:
    """Scans and loads a SavedModel that is no bundle's.

    Args:
        directory: its folder.
        saved_model: the message in it.
        what: what to call it in an error.
        allow_ops: operations that its graph may use although they reach beyond it.
        tags: of the graph to load; None means the only one.

    Returns:
        The loaded object, and those of ``allow_ops`` that the model can run.

    Raises:
        ForbiddenOperationError: the graph can do more than compute. See ``scan_saved_model``.
    """
    used = scan_saved_model(saved_model, what, allow_ops)
    return _load(directory, tags), used


def load_into_session(
    session: Any, directory: Path, saved_model: Any, what: str, allow_ops: Sequence[str], tags: Sequence[str]
) -> None:
    """Scans a SavedModel of TensorFlow 1 and loads a graph of it into a session. See ``load_source``."""
    scan_saved_model(saved_model, what, allow_ops)
    import_tensorflow().compat.v1.saved_model.load(session, list(tags), str(directory))


def _load(directory: Path, tags: Sequence[str] | None, *, has_weights: bool = True) -> Any:
    """Calls TensorFlow's loader, which runs initialisers, creators and savers of the model."""
    tf = import_tensorflow()
    options = tf.saved_model.LoadOptions(experimental_skip_checkpoint=not has_weights)
    return tf.saved_model.load(str(directory), tags=tags, options=options)


def import_custom_ops(packages: Sequence[str], needed_by: str) -> None:
    """Imports packages for the operations that they register with TensorFlow.

    Raises:
        MissingExtraError: one is not installed, or was built for another TensorFlow; the message says what to
            install.
    """
    import_tensorflow()
    for package in packages:
        try:
            importlib.import_module(package)
        # A library linked against another TensorFlow raises NotFoundError, which is an OpError.
        except (ImportError, import_tensorflow().errors.NotFoundError) as error:
            raise MissingExtraError(
                f"{needed_by} needs operations of {package}, which cannot be imported here ({error}). "
                f'Install it: pip install "beam-embedding-jobs[{_EXTRAS[package]}]"'
            ) from error
