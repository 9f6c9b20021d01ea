"""Finds the files next to a saved model: tokenizer and configuration, as ``save_pretrained`` writes them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from typing import Any

from model_bundle.builders.licence import licence_files
from model_bundle.builders.source_folder import SourceFolder, check_inside, read_json
from model_bundle.builders.tokenizer import SubwordTokenizer, read_tokenizer
from model_bundle.errors import SourceError

_TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "sentencepiece.bpe.model")
# save_pretrained puts the SavedModel two folders below its configuration: saved_model/1.
_LEVELS = 2


@dataclass(frozen=True)
class Sidecar:
    """A folder with tokenizer files, a configuration, or both. ``how`` says how it was found."""

    folder: SourceFolder
    config: dict[str, Any]
    how: str


def find_sidecar(source: Path, stated: Path | None) -> Sidecar | None:
    """Finds the tokenizer and configuration of a model.

    Looks in the model itself if it is a folder, in the folders above it, and in its sibling folders.

    Args:
        source: the saved model.
        stated: ``--tokenizer``, which takes precedence.

    Raises:
        SourceError: the stated folder has no tokenizer, or several folders have one.
    """
    if stated is not None:
        if not stated.is_dir() or not _has_tokenizer(stated):
            raise SourceError(
                f"--tokenizer {stated}: expected a folder with one of {', '.join(_TOKENIZER_FILES)}."
            )
        return _read(stated, f"as --tokenizer says, {stated}")
    for found in _levels(source):
        if len(found) > 1:
            listed = "\n".join(f"  --tokenizer {folder}" for folder in found)
            raise SourceError(
                f"There are several tokenizers next to {source}. Name the one of this model:\n{listed}"
            )
        if found:
            check_inside(found[0].parent, found[0])
            return _read(found[0], f"found in {found[0]}")
    return None


def folders_beside(source: Path) -> list[Path]:
    """Lists the folders that ``find_beside`` looks through."""
    return list(source.resolve().parents[:_LEVELS])


def files_beside(source: Path) -> list[Path]:
    """Lists a model, or the files of a checkpoint, and what may be read of that which lies beside it."""
    here = source.resolve()
    parts = [] if here.exists() else list(here.parent.glob(f"{escape(here.name)}.*"))
    beside = [folder for folders in _levels(source) for folder in folders]
    return [here, *parts, *beside, *(path for path in licence_files(here.parent) if path.is_file())]


def read_labels(path: Path) -> tuple[str, ...]:
    """Reads the names of classes, in the order of the model's outputs.

    Args:
        path: text with one name per line, a JSON list, or JSON with ``id2label`` as in ``config.json``.

    Raises:
        SourceError: it cannot be read, or a name is missing or repeated.
    """
    if not path.is_file():
        raise SourceError(f"--labels {path} does not exist.")
    if path.suffix == ".json":
        labels = labels_in(read_json(path), str(path))
    else:
        labels = tuple(line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
    if not labels or len(set(labels)) < len(labels):
        raise SourceError(
            f"--labels {path}: expected distinct names, one per line or as JSON; found {labels}."
        )
    return labels


def labels_in(content: Any, where: str) -> tuple[str, ...]:
    """Extracts labels from JSON: a list, or ``id2label`` with numbers from 0.

    Raises:
        SourceError: the JSON contains something else.
    """
    named = content.get("id2label", content) if isinstance(content, dict) else content
    if isinstance(named, list) and all(isinstance(name, str) for name in named):
        return tuple(named)
    if isinstance(named, dict) and sorted(named) == sorted(map(str, range(len(named)))):
        return tuple(str(named[str(index)]) for index in range(len(named)))
    raise SourceError(f"{where}: expected a list of labels, or id2label with numbers from 0.")


def read_subwords(sidecar: Sidecar | None, lowercase: bool | None, where: str) -> SubwordTokenizer:
    """Reads the tokenizer of a model that takes token ids.

    Raises:
        SourceError: there is no tokenizer.
    """
    if sidecar is None or not _has_tokenizer(sidecar.folder.root):
        raise SourceError(
            f"{where} takes token ids, but no tokenizer is next to it. Name the folder of its tokenizer "
            f"({', '.join(_TOKENIZER_FILES)}): --tokenizer DIR"
        )
    return read_tokenizer(sidecar.folder, lowercase)


def _read(folder: Path, how: str) -> Sidecar:
    opened = SourceFolder(folder)
    return Sidecar(opened, opened.json_object("config.json") or {}, how)


def _levels(source: Path) -> Iterator[list[Path]]:
    """Yields the folders with a tokenizer, by level, nearest first."""
    here = source.resolve()
    if here.is_dir() and _has_tokenizer(here):
        yield [here]
    for above in list(here.parents)[:_LEVELS]:
        if _has_tokenizer(above):
            yield [above]
        if above == here.parent:
            yield [folder for folder in sorted(above.iterdir()) if folder.is_dir() and _has_tokenizer(folder)]


def _has_tokenizer(folder: Path) -> bool:
    return any((folder / name).is_file() for name in _TOKENIZER_FILES)
