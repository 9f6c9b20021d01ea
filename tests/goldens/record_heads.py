"""Records what PyTorch makes of tiny classifiers, for tests that need no PyTorch.

Run it where PyTorch and transformers are installed; it writes ``tests/data/tiny_*``::

    python tests/goldens/record_heads.py tests/data

Each folder is what ``save_pretrained`` writes, and ``expected.npz``: ``texts``, JSON in UTF-8; ``ids`` and
``mask`` int64[texts, tokens]; ``logits`` and ``scores`` float32[texts, labels] or [texts, tokens, labels];
``below`` float32[texts, dim] of heads that judge texts, what the last matrix is multiplied with; ``words``,
JSON: for each text the place of each token's word, as transformers tells it, and the token's characters.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from record_torch import (
    DIM,
    HEADS,
    INNER,
    LAYERS,
    TEXTS,
    bert_shape,
    byte_level_tokenizer,
    record,
    wordpiece_tokenizer,
    wordpiece_vocab,
)
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertForTokenClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForSequenceClassification,
    RobertaForTokenClassification,
)

HEAD_TEXTS = (*TEXTS, "three  words,\nand\ttwo  ", "unbelievably", "it's café 北京 the3cats")
ENTITIES = ("O", "B-PLACE", "I-PLACE", "B-NUMBER")


def main(root: Path) -> None:
    """Writes the folders into ``root``."""
    torch.manual_seed(20261121)
    vocab = wordpiece_vocab()
    words, pieces = wordpiece_tokenizer(vocab, 64), byte_level_tokenizer()
    bert: dict[str, Any] = {"vocab_size": len(vocab), **bert_shape(64)}
    roberta: dict[str, Any] = {
        "vocab_size": len(pieces),
        "type_vocab_size": 1,
        "pad_token_id": 1,
        "bos_token_id": 0,
        "eos_token_id": 2,
        **bert_shape(130),
    }
    distilbert = DistilBertConfig(
        vocab_size=len(vocab),
        max_position_embeddings=64,
        dim=DIM,
        hidden_dim=INNER,
        n_heads=HEADS,
        n_layers=LAYERS,
        **labels("bad", "so-so", "good"),
    )
    keep(root / "tiny_distilbert_mood", DistilBertForSequenceClassification(distilbert), words)
    topics = RobertaConfig(
        **roberta, **labels("sport", "trade", "science"), problem_type="multi_label_classification"
    )
    keep(root / "tiny_roberta_topics", RobertaForSequenceClassification(topics), pieces)
    rating = BertConfig(**bert, **labels("rating"), problem_type="regression")
    keep(root / "tiny_bert_rating", BertForSequenceClassification(rating), words)
    keep(
        root / "tiny_bert_entities",
        BertForTokenClassification(BertConfig(**bert, **labels(*ENTITIES))),
        words,
    )
    tags = RobertaConfig(**roberta, **labels(*ENTITIES))
    keep(root / "tiny_roberta_entities", RobertaForTokenClassification(tags), pieces)


def labels(*names: str) -> dict[str, Any]:
    """What a configuration says of its labels."""
    return {"id2label": dict(enumerate(names)), "label2id": {name: index for index, name in enumerate(names)}}


def keep(directory: Path, model: Any, tokenizer: PreTrainedTokenizerFast) -> None:
    """Saves a classifier with random weights, its tokenizer and what it gives for the texts."""
    record(directory, model, model.base_model, tokenizer)
    fed = tokenizer(list(HEAD_TEXTS), padding=True, return_tensors="pt", return_offsets_mapping=True)
    inputs = {"input_ids": fed["input_ids"], "attention_mask": fed["attention_mask"]}
    below: list[torch.Tensor] = []
    last = getattr(model.classifier, "out_proj", model.classifier)
    hook = last.register_forward_pre_hook(lambda _, given: below.append(given[0]))
    with torch.no_grad():
        logits = model(**inputs).logits
    hook.remove()
    arrays = {
        "texts": as_json(HEAD_TEXTS),
        "ids": inputs["input_ids"].numpy(),
        "mask": inputs["attention_mask"].numpy(),
        "logits": logits.numpy(),
        "scores": scores_of(logits, model.config).numpy(),
        "words": as_json(
            [
                [[word, *span] for word, span in zip(fed.word_ids(i), spans.tolist(), strict=True)]
                for i, spans in enumerate(fed["offset_mapping"])
            ]
        ),
    }
    if logits.ndim == 2:
        arrays["below"] = below[0].numpy()
    np.savez_compressed(directory / "expected.npz", **arrays)


def scores_of(logits: torch.Tensor, config: Any) -> torch.Tensor:
    """What transformers' text-classification pipeline makes of logits."""
    if config.problem_type == "regression":
        return logits
    return logits.sigmoid() if config.problem_type == "multi_label_classification" else logits.softmax(-1)


def as_json(value: Any) -> np.ndarray:
    """JSON as an array: npz without pickle has no lists."""
    return np.frombuffer(json.dumps(value).encode("utf-8"), dtype=np.uint8)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
