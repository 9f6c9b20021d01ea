"""Reads the tokenizer of a source as ``tokenizer.json``, with its token limit and casing."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from model_bundle.builders.known_settings import SPECIAL_TOKENS_MAP, TOKENIZER
from model_bundle.builders.source_folder import SourceFolder, check_inside
from model_bundle.errors import SourceError

# Files that transformers reads a tokenizer from: one of the first group is required, the second is optional.
_TOKENIZERS = ("tokenizer.json", "vocab.txt", "vocab.json", "sentencepiece.bpe.model", "spiece.model")
_SETTINGS = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "merges.txt")
# Settings of BERT's tokenizers, and what ``tokenizer.json`` calls them.
_NORMALIZER = {
    "do_lower_case": "lowercase",
    "strip_accents": "strip_accents",
    "tokenize_chinese_chars": "handle_chinese_chars",
}
# How the names of classes begin whose ``model_input_names`` in transformers 4 have no token types.
_WITHOUT_TYPES = ("DistilBert", "Roberta", "XLMRoberta", "Camembert", "MPNet")
# transformers writes 1e30 for a tokenizer without a limit.
_NO_LIMIT = 10**6


@dataclass(frozen=True)
class SubwordTokenizer:
    """A tokenizer and its settings.

    ``json_text`` is the content of ``tokenizer.json``; ``max_tokens`` is None if it has no limit.
    ``vocab_size`` is the highest id plus one. ``gives_types``: the model is fed the segments of two texts.
    ``note`` names a setting that was detected, not read.
    """

    json_text: str
    max_tokens: int | None
    lowercase: bool
    vocab_size: int
    note: str | None = None
    gives_types: bool = False


def read_tokenizer(folder: SourceFolder, lowercase: bool | None) -> SubwordTokenizer:
    """Reads the tokenizer of a Hugging Face folder or a Google checkpoint.

    Args:
        folder: contains its files.
        lowercase: casing of a bare ``vocab.txt``; None detects it from the vocabulary.

    Raises:
        SourceError: there is no tokenizer, it cannot be read, or ``lowercase`` contradicts it.
    """
    settings = read_settings(folder)
    if not folder.has(*_TOKENIZERS):
        raise SourceError(
            f"{folder.root} has no tokenizer. Looked for {', '.join(_TOKENIZERS)}. "
            "Copy the tokenizer files of this model next to its weights."
        )
    # Otherwise importing transformers advises to install PyTorch, which is not used here.
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    if folder.has("vocab.txt") and not folder.has("tokenizer.json") and "tokenizer_class" not in settings:
        return _from_vocab(folder, settings, lowercase)
    read = _from_transformers(folder)
    if lowercase is not None and lowercase != read.lowercase:
        known = "lower-cases" if read.lowercase else "keeps capitals"
        raise SourceError(f"--lowercase: the tokenizer in {folder.root} {known}. Omit the option.")
    return read


def read_settings(folder: SourceFolder) -> dict[str, Any]:
    """Reads ``tokenizer_config.json``.

    Raises:
        SourceError: a setting there, or in ``special_tokens_map.json``, is not known or not supported.
    """
    settings = folder.json_object("tokenizer_config.json") or {}
    TOKENIZER.check(settings, str(folder.root / "tokenizer_config.json"))
    named = folder.json_object("special_tokens_map.json") or {}
    SPECIAL_TOKENS_MAP.check(named, str(folder.root / "special_tokens_map.json"))
    if settings.get("truncation_side", "right") != "right":
        raise SourceError(
            f"{folder.root}: the tokenizer truncates texts at the start; only the end is supported."
        )
    return settings


def with_lowercase(tokenizer: SubwordTokenizer) -> SubwordTokenizer:
    """Adds lower-casing as the first step, as ``do_lower_case`` of sentence-transformers requires.

    Special tokens in the text are still matched before it, as there.
    """
    from tokenizers import Tokenizer, normalizers

    if tokenizer.lowercase:
        return tokenizer
    backend = Tokenizer.from_str(tokenizer.json_text)
    steps = [normalizers.Lowercase()] + ([backend.normalizer] if backend.normalizer else [])
    backend.normalizer = normalizers.Sequence(steps)
    return replace(tokenizer, json_text=backend.to_str(), lowercase=True)


def _from_transformers(folder: SourceFolder) -> SubwordTokenizer:
    from transformers import AutoTokenizer

    return _loaded(folder, AutoTokenizer, None)


def _from_vocab(folder: SourceFolder, settings: dict[str, Any], lowercase: bool | None) -> SubwordTokenizer:
    """Reads BERT's WordPiece tokenizer, as Google and transformers 4.5 and older left it.

    Nothing in the folder states its class, and Google's states no casing either.
    """
    from transformers import BertTokenizer

    path = folder.find("vocab.txt")
    assert path is not None
    vocab = _read_vocab(path)
    chosen, note = _casing(path, vocab, settings.get("do_lower_case"), lowercase)
    names = {**settings, **(folder.json_object("special_tokens_map.json") or {})}
    needed = {"unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]"}
    tokens = [token_content(names.get(name) or usual) for name, usual in needed.items()]
    lacking = [token for token in tokens if token not in vocab]
    if lacking:
        raise SourceError(f"{path} lacks {', '.join(lacking)}: it is not a BERT vocabulary.")
    return _loaded(folder, BertTokenizer, note, vocab=vocab, do_lower_case=chosen)


def token_content(token: Any) -> str:
    """Returns a special token, which may be stored with its flags."""
    return str(token["content"] if isinstance(token, dict) else token)


def _loaded(folder: SourceFolder, kind: Any, note: str | None, **options: Any) -> SubwordTokenizer:
    """Loads the folder with a class of transformers."""
    for name in (*_TOKENIZERS, *_SETTINGS):
        folder.find(name)
    # It may read more of the folder than these.
    for path in folder.root.iterdir():
        if path.is_file():
            check_inside(folder.root, path)
    try:
        read = kind.from_pretrained(
            str(folder.root), local_files_only=True, trust_remote_code=False, **options
        )
        backend = read.backend_tokenizer
    # The error depends on the kind of file, and the tokenizers library raises plain Exception.
    except Exception as error:
        raise SourceError(
            f"The tokenizer in {folder.root} cannot be read: {error}\n"
            "Save it again with transformers: AutoTokenizer.from_pretrained('OLD').save_pretrained('NEW'). A "
            "SentencePiece model without a tokenizer.json needs the packages sentencepiece and protobuf for "
            "that."
        ) from error
    backend = _as_filed(backend, folder)
    _check_applied(read, backend, folder)
    made = finish(backend, read.model_max_length, folder.root, note)
    return replace(made, gives_types=_gives_types(read, folder))


def _gives_types(read: Any, folder: SourceFolder) -> bool:
    """Whether transformers 4 feeds a model the segments of two texts: by the folder, else by the class.

    Models with two segments were trained with it; 5 gives them for fewer classes.
    """
    stated = (folder.json_object("tokenizer_config.json") or {}).get("model_input_names")
    return "token_type_ids" in stated if stated else not type(read).__name__.startswith(_WITHOUT_TYPES)


def _as_filed(backend: Any, folder: SourceFolder) -> Any:
    """Returns the tokenizer of a SentencePiece model as ``tokenizer.json`` has it, if there is one.

    transformers 5 takes only its vocabulary from there, and what comes before from the class that
    ``tokenizer_config.json`` names: how spaces and characters are treated may then differ from what the model
    was trained with.
    """
    from tokenizers import Tokenizer

    path = folder.find("tokenizer.json")
    if path is None or json.loads(backend.to_str())["model"]["type"] != "Unigram":
        return backend
    return Tokenizer.from_file(str(path))


def _check_applied(read: Any, backend: Any, folder: SourceFolder) -> None:
    """Checks that what the folder's files state is what the loaded tokenizer does.

    With a ``tokenizer.json``, some classes of transformers follow that file alone.

    Raises:
        SourceError: names a setting that would be ignored.
    """
    from tokenizers import Tokenizer

    content = json.loads(backend.to_str())
    stated = folder.json_object("tokenizer_config.json") or {}
    stated |= folder.json_object("special_tokens_map.json") or {}
    ids = dict(folder.json_object("added_tokens.json") or {})
    ids |= {
        token_content(token): int(key) for key, token in (stated.get("added_tokens_decoder") or {}).items()
    }
    does: dict[str, tuple[Any, Any]] = {
        f"the id of {token!r}": (number, backend.token_to_id(token)) for token, number in ids.items()
    }
    normalizer = content["normalizer"] or {}
    if normalizer.get("type") == "BertNormalizer":
        for key, part in _NORMALIZER.items():
            if stated.get(key) is not None:
                does[key] = stated[key], normalizer[part]
    probe = Tokenizer.from_str(backend.to_str())
    probe.no_padding()  # a tokenizer.json may keep how its last batch was padded
    probe.no_truncation()
    special = [token for token in probe.encode("a").tokens if token in map(str, read.all_special_tokens)]
    for key, found in (
        ("unk_token", content["model"].get("unk_token")),
        ("cls_token", special[0] if special else None),
        ("sep_token", special[-1] if special else None),
    ):
        if stated.get(key) is not None and found is not None:
            does[key] = token_content(stated[key]), found
    for key, (wanted, found) in does.items():
        if wanted != found:
            raise SourceError(
                f"{folder.root}: its settings state {wanted!r} for {key}, but transformers loads a tokenizer "
                f"with {found!r}. Correct the file that is wrong; save the tokenizer again with transformers."
            )


def _read_vocab(path: Path) -> dict[str, int]:
    """Reads one token per line, its line number the id. Only a line feed ends a line: tokens may be odd."""
    try:
        lines = path.read_bytes().decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise SourceError(f"{path} is not UTF-8 ({error}). Copy it again.") from error
    tokens = [line.rstrip("\r") for line in (lines[:-1] if lines[-1] == "" else lines)]
    return {token: index for index, token in enumerate(tokens)}


def _casing(
    path: Path, vocab: dict[str, int], stated: bool | None, asked: bool | None
) -> tuple[bool, str | None]:
    """Whether text is lower-cased: as asked, as stated, else as the vocabulary suggests; and a note.

    Raises:
        SourceError: the folder's name contradicts the vocabulary.
    """
    if asked is not None or stated is not None:
        return bool(stated if asked is None else asked), None
    capitals = [token for token in vocab if token != token.lower() and not token.startswith("[")]
    folder = path.parent.name.lower()
    named = True if "uncased" in folder else False if "cased" in folder else None
    if named is not None and named == bool(capitals):
        raise SourceError(
            f"{path}: {len(capitals)} tokens have capital letters, but the folder is called "
            f"{path.parent.name}. State the casing: --lowercase yes or --lowercase no."
        )
    if capitals:
        return False, f"casing: kept, because the vocabulary has capital letters ({capitals[0]!r})"
    return True, "casing: text is lower-cased, because the vocabulary has no capital letters"


def finish(backend: Any, limit: float | None, root: Path, note: str | None) -> SubwordTokenizer:
    """Returns a ``tokenizers.Tokenizer`` without padding and truncation, and what is known of it."""
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
