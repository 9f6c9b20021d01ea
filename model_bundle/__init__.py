"""Model bundles: a TensorFlow SavedModel plus everything needed to use it correctly.

Importing this package, and opening a bundle, needs no TensorFlow; building and encoding do.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from model_bundle.bundle.bundle import ModelBundle as ModelBundle
    from model_bundle.bundle.manifest import BundleManifest as BundleManifest
    from model_bundle.bundle.specs import Pooling as Pooling
    from model_bundle.bundle.specs import Precision as Precision
    from model_bundle.errors import (
        BundleFormatError as BundleFormatError,
    )
    from model_bundle.errors import (
        BundleIntegrityError as BundleIntegrityError,
    )
    from model_bundle.errors import (
        ForbiddenOperationError as ForbiddenOperationError,
    )
    from model_bundle.errors import (
        GoldenMismatchError as GoldenMismatchError,
    )
    from model_bundle.errors import (
        ModelBundleError as ModelBundleError,
    )
    from model_bundle.errors import (
        ModelMemoryError as ModelMemoryError,
    )
    from model_bundle.errors import (
        ModelRunError as ModelRunError,
    )
    from model_bundle.errors import (
        NonFiniteError as NonFiniteError,
    )
    from model_bundle.errors import (
        SettingsError as SettingsError,
    )
    from model_bundle.errors import (
        SourceError as SourceError,
    )
    from model_bundle.errors import (
        TextTooLongError as TextTooLongError,
    )
    from model_bundle.errors import (
        WeightsMismatchError as WeightsMismatchError,
    )
    from model_bundle.inference.classifier import Classifier as Classifier
    from model_bundle.inference.encoder import Encoder as Encoder
    from model_bundle.runtime.long_texts import Combine as Combine
    from model_bundle.runtime.long_texts import LongTexts as LongTexts
    from model_bundle.runtime.long_texts import OnLong as OnLong
    from model_bundle.text.boundaries import WindowsAt as WindowsAt

# The one place that says it; pyproject.toml and beam_jobs read it here.
__version__ = "0.1.0"

_MODULES = {
    "BundleFormatError": "errors",
    "BundleIntegrityError": "errors",
    "BundleManifest": "bundle.manifest",
    "Classifier": "inference.classifier",
    "Combine": "runtime.long_texts",
    "Encoder": "inference.encoder",
    "ForbiddenOperationError": "errors",
    "GoldenMismatchError": "errors",
    "LongTexts": "runtime.long_texts",
    "ModelBundle": "bundle.bundle",
    "ModelBundleError": "errors",
    "ModelMemoryError": "errors",
    "ModelRunError": "errors",
    "NonFiniteError": "errors",
    "OnLong": "runtime.long_texts",
    "Pooling": "bundle.manifest",
    "Precision": "bundle.manifest",
    "SettingsError": "errors",
    "SourceError": "errors",
    "TextTooLongError": "errors",
    "WeightsMismatchError": "errors",
    "WindowsAt": "text.boundaries",
}
__all__ = sorted(_MODULES)


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first used."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
