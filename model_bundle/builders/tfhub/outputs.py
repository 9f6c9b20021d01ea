"""Describes the outputs of a module by running it, whatever their names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

import numpy as np

from model_bundle.builders.tfhub.bert_preprocessing import LENGTHS
from model_bundle.bundle.specs import OutputSpec
from model_bundle.errors import SourceError

# The default output is the first of these; else any vector per text, then any vector per token.
_USUAL = ("elmo", "sequence_output", "default")
# TF-Hub's BERT encoders number the states after each layer from 0; our layer 0 is the embeddings.
_BERT_LAYER = re.compile(r"encoder_outputs_(\d+)")


def describe_outputs(
    outputs: Mapping[str, np.ndarray], num_texts: int, num_tokens: int | None, location: str
) -> tuple[dict[str, OutputSpec], list[str]]:
    """Classifies each output by the array it returned for some texts.

    Args:
        outputs: arrays by name.
        num_texts: the number of texts.
        num_tokens: of the longest text; None if only the module knows, which returns ``sequence_len``.
        location: what to call the module in an error.

    Returns:
        Specifications by name, and a note on each output that cannot be used.

    Raises:
        SourceError: no output can be used.
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
        raise SourceError(f"{location} returns no vectors:\n" + "\n".join(notes or ["no outputs"]))
    return specs, notes


def default_output(specs: Mapping[str, OutputSpec]) -> str:
    """Chooses the output that jobs write by default."""
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
        return f"{shape}, and which tokens are padding is unknown (no output {LENGTHS})"
    return f"{shape}, expected float[texts, dim] or float[texts, tokens, dim]"


def _layer(name: str) -> str:
    match = _BERT_LAYER.fullmatch(name)
    return str(int(match[1]) + 1) if match else name
