"""Maps arrays by role to the inputs of a signature, padded to a fixed length where the model has one."""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import numpy as np

from model_bundle.bundle.specs import InputSpec
from model_bundle.errors import ModelRunError


def signature_inputs(
    arrays: Mapping[str, np.ndarray], specs: Mapping[str, InputSpec], pad_id: int
) -> dict[str, np.ndarray]:
    """Returns the arrays of a batch by input name; arrays that the model does not take are left out.

    Args:
        arrays: by role; those of ``numeric`` inputs by ``numeric_key``, since there can be several. If the
            model takes ``types`` and they are missing, they are 0: a text is one segment; ``skipped``
            likewise: all tokens are pooled.
        specs: the signature's inputs.
        pad_id: pads ids to a fixed length.

    Raises:
        ModelRunError: an array is missing, or longer than a fixed length.
    """
    return {name: _padded(name, _find(arrays, name, spec), spec, pad_id) for name, spec in specs.items()}


def numeric_key(name: str) -> str:
    """Returns the key of a ``numeric`` input's array, which differs from every role."""
    return f"numeric/{name}"


def fixed_length(specs: Mapping[str, InputSpec]) -> int:
    """Returns the number of tokens that every text is padded to; 0 if it depends on the batch."""
    return max((spec.length or 0 for spec in specs.values()), default=0)


def example_numbers(specs: Mapping[str, InputSpec], texts: np.ndarray) -> dict[str, np.ndarray]:
    """Generates example numbers, which depend on the text's index alone, not on the batch.

    Args:
        specs: the signature's inputs.
        texts: int[batch], indices of texts.

    Returns:
        [batch, columns] for each ``numeric`` input by its key: normal float32, or integers 0 and 1.
    """
    return {
        numeric_key(name): np.stack([_example(name, spec, int(text)) for text in texts])
        for name, spec in specs.items()
        if spec.role == "numeric"
    }


def _example(name: str, spec: InputSpec, text: int) -> np.ndarray:
    random = np.random.default_rng([zlib.crc32(name.encode("utf-8")), text])
    if spec.dtype == "float32":
        return random.normal(size=len(spec.columns)).astype(np.float32)
    return random.integers(0, 2, len(spec.columns)).astype(spec.dtype)


def _find(arrays: Mapping[str, np.ndarray], name: str, spec: InputSpec) -> np.ndarray:
    if spec.role == "numeric" and numeric_key(name) in arrays:
        return arrays[numeric_key(name)]
    if spec.role in arrays:
        return arrays[spec.role]
    if spec.role == "types" and "ids" in arrays:
        return np.zeros_like(arrays["ids"])
    if spec.role == "skipped" and "ids" in arrays:
        return np.zeros(len(arrays["ids"]), dtype=np.int32)
    raise ModelRunError(
        f"The model's input {name} needs {spec.role}; the batch only has {', '.join(arrays)}."
    )


def _padded(name: str, array: np.ndarray, spec: InputSpec, pad_id: int) -> np.ndarray:
    if spec.length is None or array.shape[1] == spec.length:
        return array
    lack = spec.length - array.shape[1]
    if lack < 0:
        raise ModelRunError(f"The model's input {name} takes {spec.length} tokens, not {array.shape[1]}.")
    fill = pad_id if spec.role == "ids" else b"" if spec.role == "words" else 0
    return np.pad(array, ((0, 0), (0, lack)), constant_values=fill)
