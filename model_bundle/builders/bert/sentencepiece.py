"""Reads DeBERTa's tokenizer from the model file of sentencepiece, with no more than protobuf.

transformers 5 takes only the vocabulary from it, without the normalisation of characters, so that full-width
letters or ligatures become unknown tokens. The models were trained with it, and transformers 4 applies it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from model_bundle.errors import SourceError

MODEL_FILE = "spm.model"
_SPECIAL = {
    "pad_token": "[PAD]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "unk_token": "[UNK]",
    "mask_token": "[MASK]",
}
_SETTINGS = ("model_max_length", "bos_token", "eos_token")
# Source: sentencepiece_model.proto.
_UNIGRAM = 1
_CONTROL, _USER_DEFINED = 3, 4


def from_model_file(path: Path, settings: dict[str, Any]) -> Any:
    """Builds the tokenizer of a sentencepiece model: a ``PreTrainedTokenizerFast``.

    Args:
        path: the model file.
        settings: of ``tokenizer_config.json`` and ``special_tokens_map.json``.

    Raises:
        SourceError: it cannot be read, or is not a Unigram model with DeBERTa's special tokens.

    Source: ``DebertaV2Converter`` of transformers 4.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    stored = _parse(path)
    pieces = [(piece.piece, piece.score) for piece in stored.pieces]
    backend = Tokenizer(models.Unigram(pieces, unk_id=stored.trainer_spec.unk_id, byte_fallback=False))
    for piece in stored.pieces:
        if piece.type in (_CONTROL, _USER_DEFINED):
            token = AddedToken(piece.piece, normalized=False, special=piece.type == _CONTROL)
            backend.add_tokens([token])
    steps: list[Any] = [normalizers.Lowercase()] if settings.get("do_lower_case") else []
    steps.append(normalizers.Strip())
    if stored.normalizer_spec.precompiled_charsmap:
        steps.append(normalizers.Precompiled(stored.normalizer_spec.precompiled_charsmap))
    backend.normalizer = normalizers.Sequence([*steps, normalizers.Replace(Regex(" {2,}"), " ")])
    split = [pre_tokenizers.Punctuation("isolated")] if settings.get("split_by_punct") else []
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [*split, pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")]
    )
    special = {name: _content(settings.get(name) or usual) for name, usual in _SPECIAL.items()}
    backend.add_special_tokens(list(special.values()))
    lacking = [token for name, token in special.items() if name != "mask_token" and token not in dict(pieces)]
    if lacking:
        raise SourceError(f"{path} lacks {', '.join(lacking)}: it is not a tokenizer of DeBERTa.")
    first, last = special["cls_token"], special["sep_token"]
    backend.post_processor = processors.TemplateProcessing(
        single=f"{first}:0 $A:0 {last}:0",
        pair=f"{first}:0 $A:0 {last}:0 $B:1 {last}:1",
        special_tokens=[(token, backend.token_to_id(token)) for token in (first, last)],
    )
    kept = {name: settings[name] for name in _SETTINGS if settings.get(name) is not None}
    made: Any = PreTrainedTokenizerFast
    return made(tokenizer_object=backend, **special, **kept)


def _content(token: Any) -> str:
    return str(token["content"] if isinstance(token, dict) else token)


def _parse(path: Path) -> Any:
    """Returns the message in a model file."""
    from transformers.utils import sentencepiece_model_pb2_new

    messages: Any = sentencepiece_model_pb2_new
    stored = messages.ModelProto()
    try:
        stored.ParseFromString(path.read_bytes())
    except Exception as error:  # protobuf's DecodeError is not a public name
        raise SourceError(f"{path} is not a model of sentencepiece: {error}. Copy it again.") from error
    if stored.trainer_spec.model_type != _UNIGRAM or not stored.pieces:
        raise SourceError(
            f"{path} is not a Unigram model of sentencepiece. Save the tokenizer as tokenizer.json with "
            "transformers 4: AutoTokenizer.from_pretrained('OLD').save_pretrained('NEW')."
        )
    return stored
