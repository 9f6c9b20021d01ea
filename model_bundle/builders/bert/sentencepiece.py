"""Reads DeBERTa's tokenizer from the model file of sentencepiece, with no more than protobuf.

transformers 5 takes only the vocabulary from it, without the normalisation of characters, so that full-width
letters or ligatures become unknown tokens. The models were trained with it, and transformers 4 applies it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from model_bundle.builders.source_folder import SourceFolder
from model_bundle.builders.tokenizer import SubwordTokenizer, finish, read_settings, token_content
from model_bundle.errors import SourceError

MODEL_FILE = "spm.model"
_SPECIAL = {
    "pad_token": "[PAD]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "unk_token": "[UNK]",
    "mask_token": "[MASK]",
}
# Source: sentencepiece_model.proto.
_UNIGRAM = 1
_CONTROL, _USER_DEFINED = 3, 4


def has_only_model_file(folder: SourceFolder) -> bool:
    """Whether a folder's tokenizer is DeBERTa's model file and nothing else."""
    return folder.has(MODEL_FILE) and not folder.has("tokenizer.json")


def read_model_file(folder: SourceFolder, lowercase: bool | None) -> SubwordTokenizer:
    """Reads the tokenizer of a folder with DeBERTa's model file.

    Raises:
        SourceError: it cannot be read, is not a Unigram model with DeBERTa's special tokens, has a setting
            that is not known, or ``lowercase`` contradicts it.

    Source: ``DebertaV2Converter`` of transformers 4.
    """
    settings = read_settings(folder)
    path = folder.find(MODEL_FILE)
    assert path is not None
    if lowercase is not None and lowercase != bool(settings.get("do_lower_case")):
        raise SourceError(f"--lowercase: {folder.root} states another casing. Omit the option.")
    return finish(_backend(path, settings), settings.get("model_max_length"), folder.root, None)


def _backend(path: Path, settings: dict[str, Any]) -> Any:
    from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

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
    backend.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    special = {name: token_content(settings.get(name) or usual) for name, usual in _SPECIAL.items()}
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
    return backend


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
