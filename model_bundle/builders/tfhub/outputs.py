"""What the outputs of a module are: looked at, not assumed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

import numpy as np

from model_bundle.builders.tfhub.bert_preprocessing import LENGTHS
from model_bundle.bundle.manifest import OutputSpec
from model_bundle.errors import SourceError

# The first of these is what a job writes unless told otherwise; else any vector a text, then any a token.
_USUAL = ("elmo", "sequence_output", "default")
# TF-Hub's BERT encoders list the states after each layer; before the first are the embeddings.
_BERT_LAYER = re.compile(r"encoder_outputs_(\d+)")


def describe_outputs(
    outputs: Mapping[str, np.ndarray], num_texts: int, num_tokens: int | None, location: str
) -> tuple[dict[str, OutputSpec], list[str]]:
    """Tells what each output is by the array it gave for some texts.

    Args:
        outputs: arrays by name.
        num_texts: how many texts went in.
        num_tokens: the longest one; None where only the module knows, and tells in ``sequence_len``.
        location: what to call the module in an error.

    Returns:
        Specifications by name, and a line on each output that cannot be used.

    Raises:
        SourceError: none can be used.
    """
    specs: dict[str, OutputSpec] = {}
    notes: list[str] = []
    lengths = outputs.get(LENGTHS)
    if lengths is not None and lengths.shape == (num_texts,) and lengths.dtype.kind == "i":
        specs[LENGTHS] = OutputSpec(kind="length", dtype="int32")
        num_tokens = num_tokens or int(lengths.max())
    for name in sorted(outputs.keys() - specs.keys()):
        kind = _kind(outputs[name], num_texts, num_tokens)
        if kind is None:
            notes.append(
                f"output {name} is left out: {_rejection_reason(outputs[name], num_texts, num_tokens)}"
            )
        else:
            specs[name] = OutputSpec(kind=kind, dim=outputs[name].shape[-1], layer=_layer(name))
    if not specs.keys() - {LENGTHS}:
        raise SourceError(
            f"{location} gives nothing that is a vector:\n" + "\n".join(notes or ["no outputs"])
        )
    return specs, notes


def default_output(specs: Mapping[str, OutputSpec]) -> str:
    """Chooses what a job writes unless told otherwise."""
    named = [name for name in _USUAL if name in specs]
    by_kind = [name for kind in ("text", "token") for name in sorted(specs) if specs[name].kind == kind]
    return (named + by_kind)[0]


def _kind(array: np.ndarray, num_texts: int, num_tokens: int | None) -> Literal["token", "text"] | None:
    if array.dtype.kind != "f" or array.shape[:1] != (num_texts,) or 0 in array.shape:
        return None
    if array.ndim == 2:
        return "text"
    is_token = array.ndim == 3 and num_tokens is not None and array.shape[1] >= num_tokens
    return "token" if is_token else None


def _rejection_reason(array: np.ndarray, num_texts: int, num_tokens: int | None) -> str:
    shape = f"it is {array.dtype.name}{list(array.shape)} for {num_texts} texts"
    if array.ndim == 3 and array.dtype.kind == "f" and num_tokens is None:
        return f"{shape}, and the module does not tell which tokens are padding (no output {LENGTHS})"
    return f"{shape}, where float[texts, dim] or float[texts, tokens, dim] belongs"


def _layer(name: str) -> str:
    match = _BERT_LAYER.fullmatch(name)
    return str(int(match[1]) + 1) if match else name
