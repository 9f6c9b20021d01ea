"""Records what PyTorch makes of tiny MPNet, ELECTRA, ALBERT, XLM-RoBERTa and CamemBERT models.

Run it where PyTorch and transformers 4 are installed; it writes a folder per switch of a configuration::

    python tests/goldens/record_families.py tests/data/families

Each is what ``save_pretrained`` writes, and ``expected.npz``: for encoders as ``record_torch`` describes it,
and of one text as long as the model takes ``long_ids`` int64[1, tokens] and ``long_states``
float32[layers + 1, 1, tokens, dim]; for classifiers as ``record_heads`` does.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from record_heads import ENTITIES, keep, labels
from record_torch import LETTERS, WORDS, record, wordpiece_tokenizer, wordpiece_vocab
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    AlbertConfig,
    AlbertForPreTraining,
    AlbertForSequenceClassification,
    AlbertForTokenClassification,
    AlbertTokenizerFast,
    BertConfig,
    BertModel,
    CamembertConfig,
    CamembertModel,
    CamembertTokenizerFast,
    ElectraConfig,
    ElectraForPreTraining,
    ElectraForSequenceClassification,
    ElectraForTokenClassification,
    ElectraModel,
    MPNetConfig,
    MPNetForMaskedLM,
    MPNetForSequenceClassification,
    MPNetForTokenClassification,
    MPNetTokenizerFast,
    XLMRobertaConfig,
    XLMRobertaModel,
    XLMRobertaTokenizerFast,
)

SIZES: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
}
MOODS = labels("bad", "so-so", "good")
TAGS = labels(*ENTITIES)
ROBERTA_IDS = {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}
ROBERTA_SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")


def main(root: Path) -> None:
    """Writes all folders into ``root``."""
    torch.manual_seed(20261130)
    mpnet(root)
    electra(root)
    albert(root)
    unigram(root)


def mpnet(root: Path) -> None:
    """Writes MPNet: long enough for every bucket of distances, and both heads."""
    words = mpnet_tokenizer()
    sizes = {"vocab_size": len(words), **SIZES}
    config = MPNetConfig(**sizes, max_position_embeddings=302, layer_norm_eps=0.05)
    model = MPNetForMaskedLM(config)
    model.mpnet = type(model.mpnet)(config, add_pooling_layer=True)
    record_encoder(root / "mpnet", model, model.mpnet, words, 300)
    config = MPNetConfig(**sizes, **MOODS, max_position_embeddings=66, hidden_act="gelu_new")
    keep(root / "mpnet_mood", MPNetForSequenceClassification(config), words)
    config = MPNetConfig(**sizes, **TAGS, max_position_embeddings=66, hidden_act="relu")
    keep(root / "mpnet_entities", MPNetForTokenClassification(config), words)


def electra(root: Path) -> None:
    """Writes ELECTRA with embeddings narrower than its layers and as wide, and both heads."""
    vocab = wordpiece_vocab()
    words = wordpiece_tokenizer(vocab, 64)
    sizes = {"vocab_size": len(vocab), **SIZES, "max_position_embeddings": 64}
    model = ElectraForPreTraining(ElectraConfig(**sizes, embedding_size=8, layer_norm_eps=0.05))
    record_encoder(root / "electra", model, model.electra, words, 64)
    wide = ElectraConfig(**sizes, embedding_size=16, hidden_act="gelu_new", type_vocab_size=1)
    wide_model = ElectraModel(wide)
    record_encoder(root / "electra_wide", wide_model, wide_model, words, 64)
    config = ElectraConfig(**sizes, **MOODS, embedding_size=8, hidden_act="relu")
    keep(root / "electra_mood", ElectraForSequenceClassification(config), words)
    config = ElectraConfig(**sizes, **TAGS, embedding_size=8)
    keep(root / "electra_entities", ElectraForTokenClassification(config), words)


def albert(root: Path) -> None:
    """Writes ALBERT with one shared layer, with groups of several, and both heads."""
    pieces = albert_tokenizer()
    sizes = {"vocab_size": len(pieces), **SIZES, "max_position_embeddings": 64}
    model = AlbertForPreTraining(AlbertConfig(**sizes, embedding_size=8, layer_norm_eps=0.05))
    record_encoder(root / "albert", model, model.albert, pieces, 64)
    sizes |= {"num_hidden_layers": 5}
    groups = {"num_hidden_groups": 2, "inner_group_num": 2, "embedding_size": 16}
    model = AlbertForPreTraining(AlbertConfig(**sizes, **groups, hidden_act="gelu", type_vocab_size=1))
    record_encoder(root / "albert_groups", model, model.albert, pieces, 64)
    sizes |= {"num_hidden_layers": 2}
    config = AlbertConfig(**sizes, **MOODS, embedding_size=8, hidden_act="relu")
    keep(root / "albert_mood", AlbertForSequenceClassification(config), pieces)
    config = AlbertConfig(**sizes, **TAGS, embedding_size=8)
    keep(root / "albert_entities", AlbertForTokenClassification(config), pieces)


def unigram(root: Path) -> None:
    """Writes BERT's and RoBERTa's graphs with the tokenizers of XLM-RoBERTa and CamemBERT."""
    pieces = xlm_roberta_tokenizer()
    sizes = {"vocab_size": len(pieces), **SIZES}
    roberta = {**sizes, **ROBERTA_IDS, "max_position_embeddings": 66, "type_vocab_size": 1}
    model = XLMRobertaModel(XLMRobertaConfig(**roberta, layer_norm_eps=0.05))
    record_encoder(root / "xlm_roberta", model, model, pieces, 64)
    french = camembert_tokenizer()
    camembert = CamembertModel(CamembertConfig(**roberta | {"vocab_size": len(french)}))
    record_encoder(root / "camembert", camembert, camembert, french, 64)
    # As multilingual MiniLM is: BERT's configuration, whose id of padding is not the tokenizer's.
    bert = BertModel(BertConfig(**sizes, max_position_embeddings=64, layer_norm_eps=0.05))
    record_encoder(root / "bert_unigram", bert, bert, pieces, 64)


def record_encoder(directory: Path, model: Any, encoder: Any, tokenizer: Any, longest: int) -> None:
    """Adds one text as long as the model takes to what ``record`` writes."""
    record(directory, model, encoder, tokenizer)
    with np.load(directory / "expected.npz") as stored:
        arrays = dict(stored)
    ids = torch.randint(5, len(tokenizer), (1, longest))
    with torch.no_grad():
        given = encoder(input_ids=ids, attention_mask=torch.ones_like(ids), output_hidden_states=True)
    arrays |= {"long_ids": ids.numpy(), "long_states": torch.stack(given.hidden_states).numpy()}
    np.savez_compressed(directory / "expected.npz", **arrays)


def mpnet_tokenizer() -> MPNetTokenizerFast:
    """MPNet's tokenizer: BERT's words between RoBERTa's special tokens."""
    vocab = ["<s>", "<pad>", "</s>", "<unk>", *wordpiece_vocab(), "<mask>"]
    ids = {token: index for index, token in enumerate(vocab)}
    backend = Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    return MPNetTokenizerFast(tokenizer_object=backend, model_max_length=512)


def pieces_with_scores(special: tuple[str, ...]) -> list[tuple[str, float]]:
    """Special tokens, then words and letters, the longer the likelier."""
    words = [f"▁{word}" for word in WORDS if not word.startswith("##")]
    inside = [word.removeprefix("##") for word in WORDS if word.startswith("##") and len(word) > 3]
    names = dict.fromkeys([*words, *inside, "▁", *LETTERS, "é", "ü", "Z", "P", "S"])
    scored = [(name, -float(20 - len(name)) if len(name) > 1 else -12.5) for name in names]
    return [*((token, 0.0) for token in special), *scored]


def unigram_backend(vocab: list[tuple[str, float]], unknown: int, steps: list[Any]) -> Tokenizer:
    """A SentencePiece model, as it is converted."""
    backend = Tokenizer(models.Unigram(vocab, unk_id=unknown))
    backend.normalizer = normalizers.Sequence(steps)
    backend.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    return backend


def between(backend: Tokenizer, first: str, last: str) -> Tokenizer:
    """Puts each text between two special tokens."""
    ids = [(token, backend.token_to_id(token)) for token in (first, last)]
    backend.post_processor = processors.TemplateProcessing(single=f"{first} $A {last}", special_tokens=ids)
    return backend


def spaces() -> Any:
    """Several spaces are one."""
    return normalizers.Replace(Regex(" {2,}"), " ")


def albert_tokenizer() -> AlbertTokenizerFast:
    """ALBERT's, which lower-cases and removes accents."""
    vocab = pieces_with_scores(("<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"))
    steps = [
        normalizers.Replace("``", '"'),
        normalizers.Replace("''", '"'),
        normalizers.NFKD(),
        normalizers.StripAccents(),
        normalizers.Lowercase(),
        spaces(),
    ]
    backend = between(unigram_backend(vocab, 1, steps), "[CLS]", "[SEP]")
    return AlbertTokenizerFast(tokenizer_object=backend, model_max_length=64)


def xlm_roberta_tokenizer() -> XLMRobertaTokenizerFast:
    """XLM-RoBERTa's, which keeps both."""
    vocab = [*pieces_with_scores(ROBERTA_SPECIAL), ("<mask>", 0.0)]
    backend = between(unigram_backend(vocab, 3, [normalizers.NFKC(), spaces()]), "<s>", "</s>")
    return XLMRobertaTokenizerFast(tokenizer_object=backend, model_max_length=512)


def camembert_tokenizer() -> CamembertTokenizerFast:
    """CamemBERT's, whose first tokens are others."""
    first = ("<s>NOTUSED", "<pad>", "</s>NOTUSED", "<unk>", "<unk>NOTUSED", "<s>", "</s>")
    vocab = [*pieces_with_scores(first), ("<mask>", 0.0)]
    backend = between(unigram_backend(vocab, 3, [normalizers.NFKC(), spaces()]), "<s>", "</s>")
    return CamembertTokenizerFast(tokenizer_object=backend, model_max_length=512)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
