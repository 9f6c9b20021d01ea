"""Records what PyTorch makes of tiny BERT, DistilBERT and RoBERTa models, for tests that need no PyTorch.

Run it where PyTorch and transformers are installed; it writes ``tests/data/tiny_*``::

    python tests/goldens/record_torch.py tests/data

Each folder is what ``save_pretrained`` writes, and ``expected.npz``: ``ids`` and ``mask``
int64[texts, tokens], ``states`` float32[layers + 1, texts, tokens, dim], ``pooler`` float32[texts, dim] where
the model has one, and ``texts``, JSON in UTF-8. Weights are random and large, so that another epsilon,
activation, position or head order shows in every number.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertForPreTraining,
    DistilBertConfig,
    DistilBertModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForMaskedLM,
)

TEXTS = (
    "the cat sat on the mat.",
    "Zürich, 北京 and São Paulo: 3 cities!",
    "a",
    "",
    "one [PAD] two <pad> three",
    "an unbelievably long sentence of many words, which goes on and on, until it is over 1234567890",
)
WORDS = (
    *(
        "the",
        "a",
        "an",
        "of",
        "and",
        "on",
        "in",
        "is",
        "it",
        "to",
        "cat",
        "sat",
        "mat",
        "one",
        "two",
        "three",
    ),
    *("words", "sentence", "long", "many", "which", "goes", "until", "over", "cities"),
    *("un", "##believ", "##ably", "##s", "##ing", "##ed"),
)
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,:!?'-"
DIM, INNER, HEADS, LAYERS = 32, 48, 4, 2


def main(root: Path) -> None:
    """Writes the three folders into ``root``."""
    torch.manual_seed(20261120)
    vocab = wordpiece_vocab()
    bert = BertForPreTraining(
        BertConfig(
            vocab_size=len(vocab), layer_norm_eps=0.05, hidden_act="gelu", pad_token_id=0, **bert_shape(64)
        )
    )
    record(root / "tiny_bert", bert, bert.bert, wordpiece_tokenizer(vocab, 64))
    (root / "tiny_bert" / "vocab.txt").write_text("\n".join(vocab) + "\n", encoding="utf-8")
    distilbert = DistilBertModel(
        DistilBertConfig(
            vocab_size=len(vocab),
            max_position_embeddings=48,
            dim=DIM,
            hidden_dim=INNER,
            n_heads=HEADS,
            n_layers=LAYERS,
            activation="relu",
        )
    )
    record(root / "tiny_distilbert", distilbert, distilbert, wordpiece_tokenizer(vocab, 512))
    bpe = byte_level_tokenizer()
    roberta = RobertaForMaskedLM(
        RobertaConfig(
            vocab_size=len(bpe),
            type_vocab_size=1,
            layer_norm_eps=0.02,
            hidden_act="gelu_new",
            pad_token_id=1,
            bos_token_id=0,
            eos_token_id=2,
            **bert_shape(130),
        )
    )
    record(root / "tiny_roberta", roberta, roberta.roberta, bpe)


def bert_shape(positions: int) -> dict[str, int]:
    """The sizes that BERT and RoBERTa name alike."""
    return {
        "hidden_size": DIM,
        "intermediate_size": INNER,
        "num_attention_heads": HEADS,
        "num_hidden_layers": LAYERS,
        "max_position_embeddings": positions,
    }


def wordpiece_vocab() -> list[str]:
    """Special tokens, letters at the start of a word and within one, and a few words."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    return list(dict.fromkeys([*special, *LETTERS, *(f"##{letter}" for letter in LETTERS), *WORDS]))


def wordpiece_tokenizer(vocab: list[str], max_length: int) -> PreTrainedTokenizerFast:
    """BERT's tokenizer, lower-casing."""
    ids = {token: index for index, token in enumerate(vocab)}
    backend = Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.BertProcessing(("[SEP]", ids["[SEP]"]), ("[CLS]", ids["[CLS]"]))
    backend.decoder = decoders.WordPiece()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=max_length,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )


def byte_level_tokenizer() -> PreTrainedTokenizerFast:
    """RoBERTa's tokenizer: bytes and a few merges."""
    merges = [("t", "h"), ("th", "e"), ("Ġ", "the"), ("a", "n"), ("i", "n"), ("Ġ", "a"), ("o", "n")]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = ["<s>", "<pad>", "</s>", "<unk>", *alphabet, *("".join(pair) for pair in merges), "<mask>"]
    ids = {token: index for index, token in enumerate(tokens)}
    backend = Tokenizer(models.BPE(ids, merges, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=128,
        bos_token="<s>",
        eos_token="</s>",
        cls_token="<s>",
        sep_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        mask_token="<mask>",
    )


def record(directory: Path, model: Any, encoder: Any, tokenizer: PreTrainedTokenizerFast) -> None:
    """Saves a model, its tokenizer and what its encoder gives for the texts."""
    shutil.rmtree(directory, ignore_errors=True)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            scale = "norm" in name.lower() and name.endswith("weight")
            parameter.normal_(1.0 if scale else 0.0, 0.2)
    model.eval()
    model.save_pretrained(directory)
    (directory / "model.safetensors").chmod(0o644)
    tokenizer.save_pretrained(directory)
    fed = tokenizer(list(TEXTS), padding=True, return_tensors="pt")
    inputs = {"input_ids": fed["input_ids"], "attention_mask": fed["attention_mask"]}
    with torch.no_grad():
        given = encoder(**inputs, output_hidden_states=True)
    arrays = {
        "ids": inputs["input_ids"].numpy(),
        "mask": inputs["attention_mask"].numpy(),
        "states": torch.stack(given.hidden_states).numpy(),
        "texts": np.frombuffer(json.dumps(TEXTS).encode("utf-8"), dtype=np.uint8),
    }
    if getattr(given, "pooler_output", None) is not None:
        arrays["pooler"] = given.pooler_output.numpy()
    np.savez_compressed(directory / "expected.npz", **arrays)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
