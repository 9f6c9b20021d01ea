"""Vectors of another system, kept in a bundle that was held to them when it was built."""

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

# What bfloat16 may add: it keeps 8 bits of a product.
_BFLOAT16 = Tolerance(min_cosine=0.999, max_difference=0.1)


@dataclass(frozen=True)
class ReferenceVectors:
    """Vectors that another system gave for the first golden texts: float32[texts, dim].

    ``output``, ``pooling``, ``normalize`` say which of this model's vectors they are. ``tolerance``: how close.
    """

    vectors: np.ndarray
    output: str
    pooling: Pooling | None
    normalize: bool
    tolerance: Tolerance

    def is_of(self, name: str, request: EncodeRequest) -> bool:
        """Whether a request asks for these vectors; one for every token of every layer does not."""
        return (self.output, self.pooling, self.normalize) == (name, request.pooling, request.normalize)

    def check(self, found: np.ndarray, precision: Precision) -> None:
        """Compares.

        Raises:
            GoldenMismatchError: they are further off than when the bundle was built.
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
                f"{np.max(measured.difference):.2e} against the vectors of old that the bundle was held to "
                "when it was built. This machine or library version computes something else; do not use the "
                "bundle here."
            )

    def arrays(self) -> dict[str, np.ndarray]:
        """Returns what ``golden.npz`` keeps."""
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
        """Reads what ``arrays`` gave; None where there is nothing."""
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
    """JSON as an array: npz without pickle has nothing else for it."""
    return np.frombuffer(json.dumps(value).encode("utf-8"), dtype=np.uint8)
