"""The tokenizer of a source as ``tokenizer.json``, with its limit and its casing."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from model_bundle.builders.source_folder import SourceFolder
from model_bundle.errors import SourceError

# Files that transformers reads a tokenizer from; the first group decides, the second adds settings.
_TOKENIZERS = ("tokenizer.json", "vocab.txt", "vocab.json", "sentencepiece.bpe.model")
_SETTINGS = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "merges.txt")
# transformers writes 1e30 where a tokenizer has no limit of its own.
_NO_LIMIT = 10**6


@dataclass(frozen=True)
class SubwordTokenizer:
    """A tokenizer, read.

    ``json_text`` is the content of ``tokenizer.json``; ``max_tokens`` None where it has no limit of its own.
    ``vocab_size`` counts ids up to the highest. ``note`` says what was decided where the source is silent.
    """

    json_text: str
    max_tokens: int | None
    lowercase: bool
    vocab_size: int
    note: str | None = None


def read_tokenizer(folder: SourceFolder, lowercase: bool | None) -> SubwordTokenizer:
    """Reads the tokenizer of a Hugging Face folder or a Google checkpoint.

    Args:
        folder: where its files are.
        lowercase: what to do where there is a bare ``vocab.txt``; None means to tell from the vocabulary.

    Raises:
        SourceError: there is none, it cannot be read, or ``lowercase`` contradicts it.
    """
    settings = folder.json_object("tokenizer_config.json") or {}
    if not folder.has(*_TOKENIZERS):
        raise SourceError(
            f"{folder.root} has no tokenizer. Looked for {', '.join(_TOKENIZERS)}. "
            "Copy the tokenizer's files of the same model beside its weights."
        )
    if settings.get("truncation_side", "right") != "right":
        raise SourceError(
            f"{folder.root}: the tokenizer cuts long texts at their start; only the end is supported."
        )
    if folder.has("vocab.txt") and not folder.has("tokenizer.json") and "tokenizer_class" not in settings:
        return _from_vocab(folder, settings, lowercase)
    read = _from_transformers(folder)
    if lowercase is not None and lowercase != read.lowercase:
        known = "lower-cases" if read.lowercase else "keeps capitals"
        raise SourceError(f"--lowercase: the tokenizer in {folder.root} {known}; leave the option out.")
    return read


def with_lowercase(tokenizer: SubwordTokenizer) -> SubwordTokenizer:
    """Lower-cases text before all else, as ``do_lower_case`` of sentence-transformers asks.

    Literals of special tokens are found before, as there.
    """
    from tokenizers import Tokenizer, normalizers

    if tokenizer.lowercase:
        return tokenizer
    backend = Tokenizer.from_str(tokenizer.json_text)
    steps = [normalizers.Lowercase()] + ([backend.normalizer] if backend.normalizer else [])
    backend.normalizer = normalizers.Sequence(steps)
    return replace(tokenizer, json_text=backend.to_str(), lowercase=True)


def _from_transformers(folder: SourceFolder) -> SubwordTokenizer:
    # Else it advises at import to install PyTorch, which nothing here uses.
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    from transformers import AutoTokenizer

    for name in (*_TOKENIZERS, *_SETTINGS):
        folder.find(name)
    try:
        read = AutoTokenizer.from_pretrained(str(folder.root), local_files_only=True, trust_remote_code=False)
        backend = read.backend_tokenizer
    # What a broken file raises depends on its kind, and the tokenizers library raises plain Exception.
    except Exception as error:
        raise SourceError(
            f"The tokenizer in {folder.root} cannot be read: {error}\n"
            "Save it again with transformers: AutoTokenizer.from_pretrained('OLD').save_pretrained('NEW')."
        ) from error
    return _finish(backend, read.model_max_length, folder.root, None)


def _from_vocab(folder: SourceFolder, settings: dict[str, Any], lowercase: bool | None) -> SubwordTokenizer:
    """BERT's WordPiece from its vocabulary alone."""
    from tokenizers import BertWordPieceTokenizer

    path = folder.find("vocab.txt")
    assert path is not None
    vocab = _read_vocab(path)
    chosen, note = _casing(path, vocab, settings.get("do_lower_case"), lowercase)
    lacking = [token for token in ("[UNK]", "[CLS]", "[SEP]", "[PAD]") if token not in vocab]
    if lacking:
        raise SourceError(f"{path} lacks {', '.join(lacking)}: it is no vocabulary of BERT.")
    backend = BertWordPieceTokenizer(vocab=vocab, lowercase=chosen)
    return _finish(backend, settings.get("model_max_length"), folder.root, note)


def _read_vocab(path: Path) -> dict[str, int]:
    """One token a line, its number the id; only a line feed ends a line, since a token may be odd."""
    try:
        lines = path.read_bytes().decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise SourceError(f"{path} is not UTF-8 ({error}). Copy it again.") from error
    tokens = [line.rstrip("\r") for line in (lines[:-1] if lines[-1] == "" else lines)]
    return {token: index for index, token in enumerate(tokens)}


def _casing(
    path: Path, vocab: dict[str, int], stated: bool | None, asked: bool | None
) -> tuple[bool, str | None]:
    """Whether text is lower-cased: as asked, as stated, else as the vocabulary shows.

    Raises:
        SourceError: the folder's name says otherwise than the vocabulary.
    """
    if asked is not None or stated is not None:
        return bool(stated if asked is None else asked), None
    capitals = [token for token in vocab if token != token.lower() and not token.startswith("[")]
    folder = path.parent.name.lower()
    named = True if "uncased" in folder else False if "cased" in folder else None
    if named is not None and named == bool(capitals):
        raise SourceError(
            f"{path}: {len(capitals)} tokens have capital letters, but the folder is called "
            f"{path.parent.name}. Say which it is: --lowercase yes or --lowercase no."
        )
    if capitals:
        return False, f"casing: kept, since the vocabulary has capital letters ({capitals[0]!r})"
    return True, "casing: text is lower-cased, since the vocabulary has no capital letters"


def _finish(backend: Any, limit: float | None, root: Path, note: str | None) -> SubwordTokenizer:
    max_tokens = int(limit) if limit is not None and 0 < limit < _NO_LIMIT else None
    backend.no_truncation()
    backend.no_padding()
    ids = backend.get_vocab(with_added_tokens=True).values()
    if not ids:
        raise SourceError(f"The tokenizer in {root} has an empty vocabulary.")
    text = backend.to_str()
    return SubwordTokenizer(text, max_tokens, _lowercases(json.loads(text)["normalizer"]), max(ids) + 1, note)


def _lowercases(normalizer: dict[str, Any] | None) -> bool:
    if normalizer is None:
        return False
    if normalizer["type"] == "Sequence":
        return any(_lowercases(step) for step in normalizer["normalizers"])
    return normalizer["type"] == "Lowercase" or bool(normalizer.get("lowercase"))
