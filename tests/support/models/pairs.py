"""What PyTorch made of a thousand pairs of texts, see ``tests/goldens/record_pairs.py``."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from model_bundle.text.pairs import PairTexts
from tests.conftest import DATA_DIR
from tests.support.models.bert_formats import copy_source, edit_json

RERANKER = "tiny_bert_rating"
MODELS = (RERANKER, "tiny_roberta_topics", "tiny_distilbert_mood")
FAMILIES = tuple(f"families/{name}_mood" for name in ("electra", "albert", "mpnet"))


def recorded(name: str) -> np.ndarray:
    """Reads one of the arrays."""
    with np.load(DATA_DIR / "pairs.npz") as stored:
        array: np.ndarray = stored[name]
    return array


def digest(prepared: PairTexts, *, with_types: bool) -> bytes:
    """Returns the sha256 of all token ids and segments, without those of pairs that do not fit."""
    found = hashlib.sha256()
    for at in np.flatnonzero(~prepared.is_unfit):
        own = slice(prepared.starts[at], prepared.starts[at + 1])
        types = prepared.types[own] if with_types else np.zeros_like(prepared.types[own])
        found.update(prepared.ids[own].astype("<i4").tobytes() + types.astype("<i4").tobytes())
    return found.digest()


def write_two_labels(target: Path) -> Path:
    """Writes the source of the model with two labels."""
    copy_source(target, DATA_DIR / RERANKER, without=("model.safetensors",))
    weights = load_file(DATA_DIR / RERANKER / "model.safetensors")
    weights |= {f"classifier.{part}": recorded(f"two/classifier.{part}") for part in ("weight", "bias")}
    save_file(weights, target / "model.safetensors")
    labels = {"id2label": {"0": "different", "1": "same"}, "label2id": None, "problem_type": None}
    edit_json(target / "config.json", **labels)
    return target
