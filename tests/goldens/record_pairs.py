"""Records what PyTorch makes of pairs of texts with tiny cross-encoders, for tests that need no PyTorch.

Run it where PyTorch, transformers and sentence-transformers are installed; it writes
``tests/data/pairs.npz`` from the folders of the other recorders and a head of its own::

    python tests/goldens/record_pairs.py tests/data

For each model of ``MODELS``: ``MODEL/logits`` float32[pairs, labels] of ``pair_texts.PAIRS``, of which the
longer text is truncated; ``MODEL/only_second`` the same where the second is, NaN where that cannot be;
``MODEL/digest`` and ``MODEL/only_second_digest``, the sha256 of all token ids and segments. For the model
with two labels also its head, ``two/classifier.weight`` and ``.bias``. ``cross_encoder``: float32[pairs], the
scores of sentence-transformers' CrossEncoder for the model with one label. The folder ``cross_encoder`` gets
what CrossEncoder saved beside the weights.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pair_texts import MAX_TOKENS, PAIRS
from safetensors.torch import load_file, save_file
from sentence_transformers import CrossEncoder
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

MODELS = (
    *("tiny_bert_rating", "tiny_roberta_topics", "tiny_distilbert_mood", "two"),
    *("families/electra_mood", "families/albert_mood", "families/mpnet_mood"),
)
BATCH = 50


def main(root: Path) -> None:
    """Writes ``pairs.npz`` into ``root``."""
    torch.manual_seed(20261130)
    torch.set_num_threads(1)
    arrays: dict[str, np.ndarray] = {}
    with tempfile.TemporaryDirectory() as work:
        folders = {name: readable_copy(root / name, Path(work) / name) for name in MODELS if name != "two"}
        folders["two"] = two_labels(folders["tiny_bert_rating"], Path(work) / "two", arrays)
        for name in MODELS:
            record(folders[name], name, arrays)
        reranker = CrossEncoder(str(folders["tiny_bert_rating"]), max_length=MAX_TOKENS, device="cpu")
        arrays["cross_encoder"] = np.asarray(reranker.predict(PAIRS), dtype=np.float32)
        keep_settings(reranker, root / "cross_encoder")
    np.savez_compressed(root / "pairs.npz", allow_pickle=False, **arrays)


def readable_copy(source: Path, target: Path) -> Path:
    """A copy whose tokenizer has a class that transformers 4 knows, too."""
    shutil.copytree(source, target)
    path = target / "tokenizer_config.json"
    settings = json.loads(path.read_text())
    if settings["tokenizer_class"] == "TokenizersBackend":
        path.write_text(json.dumps(settings | {"tokenizer_class": "PreTrainedTokenizerFast"}))
    return target


def two_labels(source: Path, target: Path, arrays: dict[str, np.ndarray]) -> Path:
    """A copy of a model whose head has two labels, with random weights."""
    shutil.copytree(source, target)
    weights = load_file(source / "model.safetensors")
    weights["classifier.weight"] = torch.randn(2, weights["classifier.weight"].shape[1])
    weights["classifier.bias"] = torch.randn(2)
    save_file(weights, target / "model.safetensors", metadata={"format": "pt"})
    for part in ("weight", "bias"):
        arrays[f"two/classifier.{part}"] = weights[f"classifier.{part}"].numpy()
    config = AutoConfig.from_pretrained(source)
    config.problem_type, config.id2label = None, {0: "different", 1: "same"}
    config.save_pretrained(target)
    return target


def record(folder: Path, name: str, arrays: dict[str, np.ndarray]) -> None:
    """Scores the pairs with both kinds of truncation."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    for truncation, key in (("longest_first", "logits"), ("only_second", "only_second")):
        digest, fed, places = hashlib.sha256(), [], []
        for place, pair in enumerate(PAIRS):
            try:
                # As lists, like a CrossEncoder: alone, transformers takes an empty second text for none.
                one = tokenizer([pair[0]], [pair[1]], truncation=truncation, max_length=MAX_TOKENS)
            except Exception:  # the tokenizers library raises nothing more specific
                continue
            found = {key: value[0] for key, value in one.items()}
            if model.config.model_type == "distilbert":
                found.pop("token_type_ids", None)  # it has no segments
            add_to(digest, found)
            fed.append(found)
            places.append(place)
        logits = np.full((len(PAIRS), model.config.num_labels), np.nan, np.float32)
        for start in range(0, len(fed), BATCH):
            batch = tokenizer.pad(fed[start : start + BATCH], return_tensors="pt")
            with torch.no_grad():
                logits[places[start : start + BATCH]] = model(**batch).logits.numpy()
        arrays[f"{name}/{key}"] = logits
        suffix = "digest" if key == "logits" else f"{key}_digest"
        arrays[f"{name}/{suffix}"] = np.frombuffer(digest.digest(), dtype=np.uint8)


def add_to(digest: Any, fed: Any) -> None:
    """Adds the ids of a pair, and its segments or zeros."""
    ids = np.array(fed["input_ids"], dtype="<i4")
    types = np.array(fed.get("token_type_ids", np.zeros(len(ids))), dtype="<i4")
    digest.update(ids.tobytes() + types.tobytes())


def keep_settings(model: CrossEncoder, target: Path) -> None:
    """Saves what a CrossEncoder writes apart from weights and tokenizer."""
    with tempfile.TemporaryDirectory() as work:
        model.save_pretrained(work, create_model_card=False)
        target.mkdir(exist_ok=True)
        for path in Path(work).iterdir():
            if path.suffix == ".json" and not path.name.startswith("tokenizer"):
                shutil.copy(path, target / path.name)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
