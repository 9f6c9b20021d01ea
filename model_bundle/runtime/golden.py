"""Golden vectors: recorded when a bundle is built, and checked wherever it is loaded."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from model_bundle.base.similarity import Tolerance, distances, largest_element
from model_bundle.base.untrusted.json_text import parse_json
from model_bundle.base.untrusted.zips import read_npz
from model_bundle.bundle.bundle import ModelBundle
from model_bundle.bundle.manifest import GOLDEN_NAME
from model_bundle.bundle.specs import Pooling, Precision
from model_bundle.errors import BundleFormatError, GoldenMismatchError, SourceError
from model_bundle.runtime.pooling import normalize, pool
from model_bundle.runtime.request import EncodeRequest

Run = Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]

# Short texts of several lengths and scripts: enough to reveal a wrong layer, gate, casing or precision.
GOLDEN_TEXTS = (
    "The quick brown fox jumps over the lazy dog.",
    "Zürich, 北京 and São Paulo: 3 cities!",
    "embedding",
    "It was not the best of times; it was a batch of many, many words, and one of them was longer.",
)
# Lowest cosine and largest relative difference of norms. bfloat16 keeps 8 bits of a product. int8 is compared
# with int8: its sums are exact, but what is rounded differs in the last digits from processor to processor.
_LIMITS = {
    Precision.FLOAT32: (0.99999, 1e-3),
    Precision.BFLOAT16: (0.999, 3e-2),
    Precision.INT8: (0.998, 3e-2),
    Precision.INT8_BFLOAT16: (0.998, 3e-2),
    Precision.INT7: (0.998, 3e-2),
}
# Class scores may be few and near 0, where direction and norm mean little: largest difference relative to the
# largest score, or to 1 if that is larger. In bfloat16 a model of two layers and two labels was off by 0.02.
_CLASS_LIMITS = {
    Precision.FLOAT32: 1e-3,
    Precision.BFLOAT16: 0.1,
    Precision.INT8: 0.1,
    Precision.INT8_BFLOAT16: 0.1,
    Precision.INT7: 0.1,
}
# Tolerance against vectors of another system in a reduced precision. int8 was measured at the build.
_REDUCED = {
    Precision.BFLOAT16: Tolerance(min_cosine=0.999, max_difference=0.1),
    Precision.INT8: Tolerance(min_cosine=0.98, max_difference=0.3),
    Precision.INT8_BFLOAT16: Tolerance(min_cosine=0.98, max_difference=0.3),
    Precision.INT7: Tolerance(min_cosine=0.98, max_difference=0.3),
}


@dataclass(frozen=True)
class Golden:
    """Inputs by role and the raw outputs recorded for them. ``texts`` are strings, or pairs of them.

    ``outputs``: float32[texts, tokens, dim] or float32[texts, dim] by output name. ``mask``: int32[texts,
    tokens], real tokens of the former. ``classes``: the outputs that are scores. ``reference``: vectors of
    another system that the bundle was verified against. ``integer``: outputs of the graphs with integer
    products, by precision.
    """

    texts: tuple[Any, ...]
    inputs: dict[str, np.ndarray]
    outputs: dict[str, np.ndarray]
    mask: np.ndarray
    classes: frozenset[str] = frozenset()
    reference: ReferenceVectors | None = None
    integer: Mapping[Precision, Mapping[str, np.ndarray]] = field(default_factory=dict)

    def with_reference(self, reference: ReferenceVectors) -> Self:
        """Adds reference vectors."""
        return replace(self, reference=reference)

    def write(self, bundle_dir: Path) -> None:
        """Writes ``golden.npz``."""
        arrays = {f"input/{role}": _storable(array) for role, array in self.inputs.items()}
        arrays |= {f"output/{name}": array for name, array in self.outputs.items()}
        for precision, outputs in self.integer.items():
            if outputs is self.outputs:
                continue  # there is no other precision
            arrays |= {f"{precision}/{name}": array for name, array in outputs.items()}
        arrays |= {} if self.reference is None else self.reference.arrays()
        np.savez(
            bundle_dir / GOLDEN_NAME, texts=as_bytes(self.texts), mask=self.mask, allow_pickle=False, **arrays
        )

    @classmethod
    def read(cls, bundle: ModelBundle) -> Self:
        """Reads the golden vectors of a bundle whose files have been checked.

        Raises:
            BundleFormatError: the file has another form, or unpacks to many times its size.
        """
        path = bundle.path / GOLDEN_NAME
        try:
            return cls._of(read_npz(path), bundle)
        except (KeyError, ValueError, TypeError, SourceError) as error:
            raise BundleFormatError(f"{path} does not contain golden vectors ({error}).") from error

    @classmethod
    def _of(cls, arrays: Mapping[str, np.ndarray], bundle: ModelBundle) -> Self:
        outputs = {n.removeprefix("output/"): a for n, a in arrays.items() if n.startswith("output/")}
        integer: dict[Precision, Mapping[str, np.ndarray]] = {
            p: {n.removeprefix(f"{p}/"): a for n, a in arrays.items() if n.startswith(f"{p}/")}
            for p in Precision
            if p.is_integer
        }
        return cls(
            texts=_texts(parse_json(arrays["texts"].tobytes()), bundle),
            inputs={n.removeprefix("input/"): a for n, a in arrays.items() if n.startswith("input/")},
            outputs=outputs,
            mask=arrays["mask"],
            classes=frozenset(n for n, spec in bundle.manifest.outputs.items() if spec.kind == "class"),
            reference=ReferenceVectors.of(arrays),
            integer=integer | ({Precision.INT8: outputs} if bundle.manifest.is_int8_only else {}),
        )

    def check(self, run: Run, request: EncodeRequest) -> None:
        """Compares a runtime's outputs for the golden inputs with the recorded ones.

        Raises:
            GoldenMismatchError: names the output, the text and the difference.
        """
        least_cosine, most_norm = _LIMITS[request.precision]
        found = run(self.inputs)
        for name in request.outputs:
            if self.reference is not None and self.reference.is_of(name, request):
                self.reference.check(found[name], request.precision)
            if name in self.classes:
                self._check_classes(name, found[name], request.precision)
                continue
            expected = self._expected(name, request)
            for index, text in enumerate(self.texts):
                cosine, norm = _compare(self._real(found[name], index), self._real(expected, index))
                if not (cosine >= least_cosine and norm <= most_norm):
                    raise GoldenMismatchError(
                        f"Output {name} of the golden text {text!r} has cosine {cosine:.6f} (at least "
                        f"{least_cosine}) and norm off by {norm:.2%} (at most {most_norm:.1%}) against the "
                        "vectors recorded when the bundle was built. This machine or library version "
                        "computes different results; do not use the bundle here."
                    )

    def _check_classes(self, name: str, found: np.ndarray, precision: Precision) -> None:
        expected, most = self._recorded(precision)[name], _CLASS_LIMITS[precision]
        for index, text in enumerate(self.texts):
            pair = self._real(found, index), self._real(expected, index)
            difference = np.inf
            if pair[0].shape == pair[1].shape:
                difference = float(np.abs(pair[0] - pair[1]).max() / max(np.abs(expected).max(), 1.0))
            if not difference <= most:
                raise GoldenMismatchError(
                    f"Output {name} of the golden text {text!r} is off by {difference:.3g} of its size (at "
                    f"most {most:g}) against the scores recorded when the bundle was built. This machine or "
                    "library version computes different results; do not use the bundle here."
                )

    def _expected(self, name: str, request: EncodeRequest) -> np.ndarray:
        expected = self._recorded(request.precision)[name]
        if request.pooling is not None:
            expected = pool(expected, self.mask, request.pooling)
        return normalize(expected) if request.normalize else expected

    def _recorded(self, precision: Precision) -> Mapping[str, np.ndarray]:
        return self.integer[precision] if precision.is_integer else self.outputs

    def _real(self, array: np.ndarray, index: int) -> np.ndarray:
        row: np.ndarray = array[index]
        return row[: int(self.mask[index].sum())] if array.ndim == 3 else row


def _compare(found: np.ndarray, expected: np.ndarray) -> tuple[float, float]:
    """Returns the lowest cosine and the largest relative difference of norms over rows."""
    found, expected = np.atleast_2d(found).astype(np.float64), np.atleast_2d(expected).astype(np.float64)
    if found.shape != expected.shape:
        return float("nan"), float("nan")
    norms, wanted = np.linalg.norm(found, axis=-1), np.linalg.norm(expected, axis=-1)
    cosine = (found * expected).sum(axis=-1) / np.maximum(norms * wanted, 1e-30)
    cosine = np.where((norms == 0) & (wanted == 0), 1.0, cosine)  # such as behind ReLU
    return float(cosine.min()), float((np.abs(norms - wanted) / np.maximum(wanted, 1e-30)).max())


def _texts(stored: Any, bundle: ModelBundle) -> Any:
    return (
        tuple((first, second) for first, second in stored)
        if bundle.manifest.task == "pairs"
        else tuple(stored)
    )


def _storable(array: np.ndarray) -> np.ndarray:
    """Converts strings to fixed-width bytes: objects would need pickle."""
    return array.astype(np.bytes_) if array.dtype == object else array


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
        if precision is not Precision.FLOAT32:
            tolerance = Tolerance(
                min(tolerance.min_cosine, _REDUCED[precision].min_cosine),
                max(tolerance.max_difference, _REDUCED[precision].max_difference),
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
        settings = parse_json(arrays["old/settings"].tobytes())
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
