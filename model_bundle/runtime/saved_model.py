"""Scans and loads the SavedModel of a bundle, with the custom operations that its graph needs."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from model_bundle.bundle.graph_scan.scan import scan_folder
from model_bundle.bundle.manifest import SAVED_MODEL_DIR, BundleManifest
from model_bundle.errors import MissingExtraError
from model_bundle.runtime.tensorflow_setup import import_tensorflow

# Packages that register operations, by the extra that installs them.
_EXTRAS = {"tensorflow_text": "text"}


def load_saved_model(bundle_dir: Path, manifest: BundleManifest, allow_ops: Sequence[str] = ()) -> Any:
    """Loads ``saved_model/`` of a bundle; the result has ``signatures``.

    Args:
        bundle_dir: the bundle.
        manifest: its manifest. The operations that it calls allowed count for nothing here.
        allow_ops: operations that its graph may use although they reach beyond it.

    Raises:
        ForbiddenOperationError: the graph can do more than compute. See ``scan_folder``.
        MissingExtraError: the graph needs operations of a package that is not installed.
    """
    directory = bundle_dir / SAVED_MODEL_DIR
    # First, since loading runs initialisers.
    scan_folder(directory, f"The model {manifest.name}", allow_ops)
    tf = import_tensorflow()
    import_custom_ops(manifest.custom_ops, manifest.name)
    return tf.saved_model.load(str(directory))


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
