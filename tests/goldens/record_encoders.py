"""Records what PyTorch makes of tiny ModernBERT and DeBERTa models, one per switch of their configurations.

Run it where PyTorch and transformers 4 are installed; it writes ``tests/data/encoders``::

    python tests/goldens/record_encoders.py tests/data/encoders

Each file ``FAMILY_SWITCH.npz`` has ``config``, JSON in UTF-8; ``weights/NAME``, float16 and used as such;
``ids`` and ``mask`` int64[texts, tokens]; ``states`` float32[layers + 1, texts, tokens, dim], the last one as
the model returns it; with a classifier ``logits``; and for long texts ``long_ids``, ``long_mask``,
``long_tokens``, the positions that are kept, and ``long_states`` float32[layers + 1, texts, positions, dim].
``FAMILY`` folders are what ``save_pretrained`` writes, as ``record_torch`` does. ``deberta_spm`` is a model
file of sentencepiece, which must be installed for it, and in ``expected.json`` texts with their ids.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from record_torch import TEXTS, record
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    DebertaConfig,
    DebertaForSequenceClassification,
    DebertaModel,
    DebertaV2Config,
    DebertaV2ForMaskedLM,
    DebertaV2ForSequenceClassification,
    DebertaV2ForTokenClassification,
    DebertaV2Model,
    DebertaV2TokenizerFast,
    ModernBertConfig,
    ModernBertForMaskedLM,
    ModernBertForSequenceClassification,
    ModernBertForTokenClassification,
    ModernBertModel,
    PreTrainedTokenizerFast,
)

VOCAB = 40
LENGTHS = (1, 2, 7, 13, 18)
MODERNBERT: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 16,
    "intermediate_size": 12,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
    "local_attention": 6,
    "pad_token_id": 0,
    "cls_token_id": 1,
    "bos_token_id": 1,
    "sep_token_id": 2,
    "eos_token_id": 2,
    "norm_eps": 0.02,
}
DEBERTA: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 16,
    "intermediate_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 24,
    "layer_norm_eps": 0.02,
}
# As microsoft/deberta-v3-base has them, at another size.
V3: dict[str, Any] = {
    "relative_attention": True,
    "position_buckets": 8,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "pos_att_type": "p2c|c2p",
    "position_biased_input": False,
}
MOODS = {"id2label": {0: "bad", 1: "so-so", 2: "good"}, "label2id": {"bad": 0, "so-so": 1, "good": 2}}


def main(root: Path) -> None:
    """Writes all files and folders into ``root``."""
    torch.manual_seed(20261130)
    root.mkdir(parents=True, exist_ok=True)
    modernbert(root)
    deberta(root)
    sentencepiece_model(root / "deberta_spm")


def modernbert(root: Path) -> None:
    """Writes ModernBERT: biases, layers, activations, bases of rotary positions, heads, long texts."""
    biases = {"norm_bias": True, "attention_bias": True, "mlp_bias": True}
    thetas = {"global_rope_theta": 500.0, "local_rope_theta": 20.0}
    layers = {"num_hidden_layers": 3, "global_attn_every_n_layers": 2, "local_attention": 3}
    switches: dict[str, dict[str, Any]] = {
        "plain": {},
        "biases": biases | {"hidden_activation": "gelu_new"},
        "thetas": thetas | {"hidden_activation": "relu"},
        "one_theta": {"local_rope_theta": None, "global_rope_theta": 300.0},
        "every_second": layers,
        "all_global": {"global_attn_every_n_layers": 1, "num_hidden_layers": 2},
        "alone": {"local_attention": 1, "num_hidden_layers": 2},
    }
    for name, changes in switches.items():
        keep(root / f"modernbert_{name}", ModernBertModel(ModernBertConfig(**MODERNBERT | changes)))
    long = MODERNBERT | {"max_position_embeddings": 8192, "num_hidden_layers": 2, "local_attention": 128}
    keep(root / "modernbert_long", ModernBertModel(ModernBertConfig(**long)), (1100, 700, 385))
    heads = {
        "mood": (ModernBertForSequenceClassification, {}),
        "mood_mean": (ModernBertForSequenceClassification, {"classifier_pooling": "mean"}),
        "tags": (ModernBertForTokenClassification, {"classifier_activation": "relu"}),
    }
    for name, (kind, changes) in heads.items():
        changes = changes | MOODS | {"classifier_bias": name == "mood_mean", "num_hidden_layers": 2}
        keep(root / f"modernbert_{name}", kind(ModernBertConfig(**MODERNBERT | changes)))
    words = bpe_tokenizer()
    model = ModernBertForMaskedLM(ModernBertConfig(**MODERNBERT | {"vocab_size": len(words)}))
    record(root / "modernbert", model, model.model, words)
    correct_last(root / "modernbert", model.model)


def deberta(root: Path) -> None:
    """Writes DeBERTa: kinds of scores, of positions, of sharing and of norms, the convolution, heads."""
    own = V3 | {"share_att_key": False}
    switches: dict[str, dict[str, Any]] = {
        "v3": V3,
        "absolute": {"type_vocab_size": 2},
        "absolute_terms": {"pos_att_type": ["c2p"]},
        "own_keys": own,
        "c2p": own | {"pos_att_type": ["c2p"], "hidden_act": "gelu_new"},
        "p2c": own | {"pos_att_type": ["p2c"], "hidden_act": "relu"},
        "c2p_shared": V3 | {"pos_att_type": "c2p"},
        "no_terms": V3 | {"pos_att_type": None},
        "linear": V3 | {"position_buckets": -1, "max_relative_positions": 6, "norm_rel_ebd": "none"},
        "linear_all": V3 | {"position_buckets": -1},
        "buckets_of_few": V3 | {"position_buckets": 4, "max_relative_positions": 12},
        "positions": V3 | {"position_biased_input": True, "type_vocab_size": 3},
        "conv": own | {"conv_kernel_size": 3, "conv_act": "gelu"},
        "conv_tanh": V3 | {"conv_kernel_size": 5},
    }
    for name, changes in switches.items():
        keep(root / f"deberta_{name}", DebertaV2Model(DebertaV2Config(**DEBERTA | changes)))
    long = DEBERTA | V3 | {"position_buckets": 256, "max_position_embeddings": 512}
    keep(root / "deberta_long", DebertaV2Model(DebertaV2Config(**long)), (512, 300))
    heads = {
        "mood": (DebertaV2ForSequenceClassification, {}),
        "mood_tanh": (DebertaV2ForSequenceClassification, {"pooler_hidden_act": "tanh"}),
        "tags": (DebertaV2ForTokenClassification, {}),
    }
    for name, (kind, changes) in heads.items():
        keep(root / f"deberta_{name}", kind(DebertaV2Config(**DEBERTA | V3 | MOODS | changes)))
    first = {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "position_biased_input": False}
    keep(root / "deberta1", DebertaModel(DebertaConfig(**DEBERTA | first)))
    few = first | {"max_relative_positions": 30, "pos_att_type": ["p2c"], "type_vocab_size": 2}
    keep(root / "deberta1_p2c", DebertaModel(DebertaConfig(**DEBERTA | few)))
    c2p = first | MOODS | {"pos_att_type": "c2p", "position_biased_input": True}
    keep(root / "deberta1_mood", DebertaForSequenceClassification(DebertaConfig(**DEBERTA | c2p)))
    pieces = unigram_tokenizer()
    sizes = {"vocab_size": len(pieces), "max_position_embeddings": 128}
    model = DebertaV2ForMaskedLM(DebertaV2Config(**DEBERTA | V3 | sizes))
    record(root / "deberta", model, model.deberta, pieces)


def sentencepiece_model(directory: Path) -> None:
    """Trains a tiny tokenizer with a rule for characters, and keeps what transformers makes of texts."""
    import sentencepiece

    directory.mkdir(exist_ok=True)
    rules = directory / "rules.tsv"
    # Full-width letters and a ligature become plain ones, a line feed a space.
    pairs = {"\uff21": "A", "\uff42": "b", "\ufb01": "fi", "\n": " ", "\t": " "}
    codes = {" ".join(f"{ord(c):x}" for c in a): " ".join(f"{ord(c):x}" for c in b) for a, b in pairs.items()}
    rules.write_text("".join(f"{a}\t{b}\n" for a, b in codes.items()))
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([*TEXTS, "A fine cab of five fish in a big bath"] * 20),
        model_prefix=str(directory / "spm"),
        vocab_size=76,
        normalization_rule_tsv=str(rules),
        pad_id=0,
        bos_id=1,
        eos_id=2,
        unk_id=3,
        pad_piece="[PAD]",
        bos_piece="[CLS]",
        eos_piece="[SEP]",
        unk_piece="[UNK]",
    )
    rules.unlink()
    (directory / "spm.vocab").unlink()
    settings = {"do_lower_case": False, "vocab_type": "spm", "tokenizer_class": "DebertaV2Tokenizer"}
    (directory / "tokenizer_config.json").write_text(json.dumps(settings))
    tokenizer = DebertaV2TokenizerFast.from_pretrained(directory)
    texts = [*TEXTS, "\uff21 \ufb01ne \uff43a\uff42", "  two  spaces\nand lines ", "[MASK] [CLS]"]
    expected = [[text, tokenizer(text)["input_ids"]] for text in texts]
    (directory / "expected.json").write_text(json.dumps(expected))


def keep(path: Path, model: Any, long: tuple[int, ...] = ()) -> None:
    """Saves a model with random weights and what it gives for texts of ``LENGTHS`` and of ``long`` tokens."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            scale = "norm" in name.lower() and name.endswith("weight")
            parameter.normal_(1.0 if scale else 0.0, 0.2)
            parameter.copy_(parameter.half().float())
    model.eval()
    config = model.config.to_dict() | {"architectures": [type(model).__name__]}
    arrays = {"config": as_json({key: value for key, value in config.items() if key != "dtype"})}
    arrays |= {f"weights/{name}": value.half().numpy() for name, value in model.state_dict().items()}
    arrays |= dict(zip(("ids", "mask"), texts(LENGTHS), strict=True))
    states, logits = states_of(model, arrays["ids"], arrays["mask"])
    arrays["states"] = states
    if logits is not None:
        arrays["logits"] = logits
    if long:
        ids, mask = texts(long)
        kept = np.unique(np.linspace(0, max(long) - 1, 24).astype(int))
        arrays |= {"long_ids": ids, "long_mask": mask, "long_tokens": kept}
        arrays["long_states"] = states_of(model, ids, mask)[0][:, :, kept]
    np.savez_compressed(path.with_suffix(".npz"), **arrays)


def texts(lengths: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Random ids, 0 where a text has ended, and which are real."""
    mask = (np.arange(max(lengths)) < np.array(lengths)[:, np.newaxis]).astype(np.int64)
    return torch.randint(1, VOCAB, mask.shape).numpy() * mask, mask


def states_of(model: Any, ids: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """States of all layers, the last as the model returns them, and logits if it has a classifier."""
    inputs = {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask)}
    with torch.no_grad():
        given = model.base_model(**inputs, output_hidden_states=True)
        logits = model(**inputs).logits.numpy() if hasattr(model, "classifier") else None
    return torch.stack([*given.hidden_states[:-1], given.last_hidden_state]).numpy(), logits


def correct_last(directory: Path, encoder: Any) -> None:
    """Replaces the last states of ``record``, which lack ModernBERT's final norm."""
    with np.load(directory / "expected.npz") as stored:
        arrays = dict(stored)
    arrays["states"] = states_of(encoder, arrays["ids"], arrays["mask"])[0]
    np.savez_compressed(directory / "expected.npz", **arrays)


def as_json(value: Any) -> np.ndarray:
    """JSON as an array: npz without pickle has no lists."""
    return np.frombuffer(json.dumps(value).encode("utf-8"), dtype=np.uint8)


def bpe_tokenizer() -> PreTrainedTokenizerFast:
    """ModernBERT's tokenizer: bytes and merges as GPT-NeoX has them, between BERT's special tokens."""
    merges = [("t", "h"), ("th", "e"), ("Ġ", "the"), ("a", "n"), ("i", "n"), ("Ġ", "a"), ("o", "n")]
    special = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    ids = {token: i for i, token in enumerate([*special, *alphabet, *("".join(pair) for pair in merges)])}
    backend = Tokenizer(models.BPE(ids, merges))
    backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:0 [SEP]:0",
        special_tokens=[("[CLS]", 1), ("[SEP]", 2)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=64,
        model_input_names=["input_ids", "attention_mask"],
        clean_up_tokenization_spaces=True,
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        unk_token="[UNK]",
        mask_token="[MASK]",
    )


def unigram_tokenizer() -> DebertaV2TokenizerFast:
    """DeBERTa v3's tokenizer: pieces of sentencepiece, with its normalisation of characters."""
    special = ["[PAD]", "[CLS]", "[SEP]", "[UNK]"]
    letters = "▁abcdefghijklmnopqrstuvwxyz0123456789.,:!?'-ABCDEFGHIJKLMNOPQRSTUVWXYZéüã"
    words = [
        "▁the",
        "▁cat",
        "▁sat",
        "▁on",
        "▁un",
        "believ",
        "ably",
        "ing",
        "▁of",
        "▁cities",
        "ci",
        "ti",
        "es",
    ]
    pieces = [(token, 0.0) for token in special] + [(word, -2.0 - len(word) / 10) for word in words]
    pieces += [(letter, -6.0 - index / 50) for index, letter in enumerate(letters)]
    backend = Tokenizer(models.Unigram(pieces, unk_id=3, byte_fallback=False))
    backend.normalizer = normalizers.Sequence(
        [normalizers.Strip(), normalizers.NFKC(), normalizers.Replace("  ", " ")]
    )
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")]
    )
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 1), ("[SEP]", 2)],
    )
    backend.add_special_tokens([*special, "[MASK]"])
    return DebertaV2TokenizerFast(tokenizer_object=backend, do_lower_case=False, model_max_length=128)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
