"""Model bundles: a TensorFlow SavedModel plus everything needed to use it correctly.

Importing this package, and opening a bundle, needs no TensorFlow; building and encoding do.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from model_bundle.bundle.bundle import ModelBundle
    from model_bundle.bundle.manifest import BundleManifest, Pooling, Precision
    from model_bundle.errors import (
        BundleFormatError,
        BundleIntegrityError,
        ForbiddenOperationError,
        GoldenMismatchError,
        ModelBundleError,
        ModelMemoryError,
        ModelRunError,
        NonFiniteError,
        SettingsError,
        SourceError,
        TextTooLongError,
        WeightsMismatchError,
    )
    from model_bundle.inference.classifier import Classifier
    from model_bundle.inference.encoder import Encoder
    from model_bundle.runtime.long_texts import Combine, LongTexts, OnLong

# The one place that says it; pyproject.toml and beam_jobs read it here.
__version__ = "0.1.0"

__all__ = [
    "BundleFormatError",
    "BundleIntegrityError",
    "BundleManifest",
    "Classifier",
    "Combine",
    "Encoder",
    "ForbiddenOperationError",
    "GoldenMismatchError",
    "LongTexts",
    "ModelBundle",
    "ModelBundleError",
    "ModelMemoryError",
    "ModelRunError",
    "NonFiniteError",
    "OnLong",
    "Pooling",
    "Precision",
    "SettingsError",
    "SourceError",
    "TextTooLongError",
    "WeightsMismatchError",
]

_HOMES = {
    "Classifier": "inference.classifier",
    "Encoder": "inference.encoder",
    "ModelBundle": "bundle.bundle",
    "BundleManifest": "bundle.manifest",
    "Combine": "runtime.long_texts",
    "LongTexts": "runtime.long_texts",
    "OnLong": "runtime.long_texts",
    "Pooling": "bundle.manifest",
    "Precision": "bundle.manifest",
}


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first used."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES.get(name, 'errors')}"), name)
