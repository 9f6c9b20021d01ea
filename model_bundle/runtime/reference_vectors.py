"""Reference vectors from another system that the bundle was verified against at build time."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from model_bundle.base.similarity import Tolerance, distances, largest_element
from model_bundle.bundle.manifest import Pooling, Precision
from model_bundle.errors import GoldenMismatchError
from model_bundle.runtime.request import EncodeRequest

# Tolerance in bfloat16, which keeps 8 bits of a product.
_BFLOAT16 = Tolerance(min_cosine=0.999, max_difference=0.1)


@dataclass(frozen=True)
class ReferenceVectors:
    """Another system's vectors for the first golden texts: float32[texts, dim].

    ``output``, ``pooling``, ``normalize``: which of this model's vectors they correspond to.
    """

    vectors: np.ndarray
    output: str
    pooling: Pooling | None
    normalize: bool
    tolerance: Tolerance

    def is_of(self, name: str, request: EncodeRequest) -> bool:
        """Whether a request yields these vectors; one for the raw states of all layers does not."""
        return (self.output, self.pooling, self.normalize) == (name, request.pooling, request.normalize)

    def check(self, found: np.ndarray, precision: Precision) -> None:
        """Compares float32[texts, dim] with the reference vectors.

        Raises:
            GoldenMismatchError: they are outside the tolerance of the build.
        """
        tolerance = self.tolerance
        if precision is Precision.BFLOAT16:
            tolerance = Tolerance(
                min(tolerance.min_cosine, _BFLOAT16.min_cosine),
                max(tolerance.max_difference, _BFLOAT16.max_difference),
            )
        expected = list(self.vectors)
        measured = distances(list(found[: len(expected)]), expected, tolerance, largest_element(expected))
        if not measured.same.all():
            raise GoldenMismatchError(
                f"Output {self.output} has cosine {np.min(measured.cosine):.6f} and a difference of "
                f"{np.max(measured.difference):.2e} against the reference vectors that the bundle was "
                "verified against when it was built. This machine or library version computes different "
                "results; do not use the bundle here."
            )

    def arrays(self) -> dict[str, np.ndarray]:
        """Returns the arrays to store in ``golden.npz``."""
        settings = {
            "output": self.output,
            "pooling": self.pooling,
            "normalize": self.normalize,
            "min_cosine": self.tolerance.min_cosine,
            "max_difference": self.tolerance.max_difference,
        }
        return {"old/vectors": self.vectors, "old/settings": as_bytes(settings)}

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray]) -> Self | None:
        """Reads the result of ``arrays``; None if there are no reference vectors."""
        if "old/vectors" not in arrays:
            return None
        settings = json.loads(arrays["old/settings"].tobytes())
        pooling = settings["pooling"]
        return cls(
            vectors=arrays["old/vectors"],
            output=settings["output"],
            pooling=None if pooling is None else Pooling(pooling),
            normalize=settings["normalize"],
            tolerance=Tolerance(settings["min_cosine"], settings["max_difference"]),
        )


def as_bytes(value: Any) -> np.ndarray:
    """Encodes JSON as uint8[bytes], since npz without pickle stores only arrays."""
    return np.frombuffer(json.dumps(value).encode("utf-8"), dtype=np.uint8)
