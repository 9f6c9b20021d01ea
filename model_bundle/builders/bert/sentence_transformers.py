"""Reads the settings of a sentence-transformers folder: ``modules.json`` and the files it names."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from model_bundle.builders.bert.sentence_modules import read_modules, read_pooling, stated_flag
from model_bundle.builders.known_settings import SENTENCE_LIMITS, SENTENCE_MODULE, SENTENCE_PROMPTS
from model_bundle.builders.source_folder import SourceFolder, read_json
from model_bundle.bundle.specs import ModuleSpec, Pooling, Similarity
from model_bundle.errors import SourceError

MODULES = "modules.json"
_PROMPTS = "config_sentence_transformers.json"
_LIMITS = tuple(
    f"sentence_{kind}_config.json"
    for kind in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta")
)
_PACKAGE = "sentence_transformers."
_ENCODERS = ("Transformer", "BERT", "RoBERTa", "DistilBERT", "CamemBERT", "ALBERT", "XLMRoBERTa")
# Source: encode_document of sentence-transformers; the first that a model has is the documents'.
_DOCUMENT_PROMPTS = ("document", "passage", "corpus")
_SIMILARITIES = {"dot_product": Similarity.DOT} | {str(each): each for each in Similarity}


@dataclass(frozen=True)
class SentenceModel:
    """The settings of a folder; None if not stated. ``encoder_path`` is relative to the folder.

    ``modules`` follow the pooling, without a normalisation at the end, which is ``normalize``; ``weights``
    are theirs, see ``SentenceHead``. ``default_prompt`` is that of documents.
    """

    encoder_path: str
    poolings: tuple[Pooling, ...]
    normalize: bool
    include_prompt: bool = True
    modules: tuple[ModuleSpec, ...] = ()
    weights: dict[str, np.ndarray] = field(default_factory=dict)
    truncate_dim: int | None = None
    similarity: Similarity | None = None
    max_tokens: int | None = None
    lowercase: bool = False
    prompts: dict[str, str] = field(default_factory=dict)
    default_prompt: str | None = None


NO_SENTENCE_MODEL = SentenceModel("", (), normalize=False)


def read_sentence_model(folder: SourceFolder) -> SentenceModel | None:
    """Reads a folder's modules; None if it has no ``modules.json``.

    Raises:
        SourceError: a bundle cannot express a module, pooling or setting.
    """
    path = folder.find(MODULES)
    if path is None:
        return None
    chained = _modules(read_json(path), str(path))
    kinds = [kind for kind, _ in chained]
    if kinds[:2] != ["Transformer", "Pooling"]:
        raise SourceError(
            f"{path} chains {', '.join(kinds)}. A bundle holds an encoder (Transformer), its Pooling, and "
            "what follows: Dense, LayerNorm, Dropout and Normalize."
        )
    encoder_path, pooling_path = chained[0][1], chained[1][1]
    limits = next((found for name in _LIMITS if (found := folder.json_object(_join(encoder_path, name)))), {})
    SENTENCE_LIMITS.check(limits, f"{folder.root / encoder_path}: the configuration of its encoder")
    if limits.get("transformer_task", "feature-extraction") != "feature-extraction":
        raise SourceError(f"{path}: the task {limits['transformer_task']!r} does not give embeddings.")
    poolings, include_prompt = read_pooling(folder, _join(pooling_path, "config.json"))
    modules, weights = read_modules(folder, chained[2:])
    normalize = bool(modules) and modules[-1].kind == "normalize"
    return SentenceModel(
        encoder_path=encoder_path,
        poolings=poolings,
        include_prompt=include_prompt,
        modules=modules[:-1] if normalize else modules,
        weights=weights,
        normalize=normalize,
        max_tokens=limits.get("max_seq_length"),
        lowercase=stated_flag(limits, "do_lower_case", False, folder.root / encoder_path),
        **_settings(folder),
    )


def _modules(content: Any, where: str) -> list[tuple[str, str]]:
    """Returns kind and folder of each module; a kind is a class name without its package."""
    found = []
    for module in content if isinstance(content, list) else [None]:
        if not isinstance(module, dict) or not {"type", "path"} <= module.keys():
            raise SourceError(f"{where} does not list modules with a type and a path.")
        SENTENCE_MODULE.check(module, where)
        kind, path = str(module["type"]), str(module["path"])
        if not kind.startswith(_PACKAGE):
            raise SourceError(
                f"{where} names the module {kind}, which is code of its own and no part of "
                "sentence-transformers: what it computes is not known."
            )
        if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
            raise SourceError(f"{where} points outside its folder: {path}.")
        kind = kind.rsplit(".", 1)[-1]
        found.append(("Transformer" if kind in _ENCODERS else kind, path))
    return found


def _settings(folder: SourceFolder) -> dict[str, Any]:
    """Reads prompts, similarity and dimension. Empty prompts are kept: their names may be used."""
    config = folder.json_object(_PROMPTS) or {}
    where = str(folder.root / _PROMPTS)
    SENTENCE_PROMPTS.check(config, where)
    prompts = config.get("prompts") or {}
    default = config.get("default_prompt_name")
    if not isinstance(prompts, dict) or not all(isinstance(text, str | None) for text in prompts.values()):
        raise SourceError(f"{where}: prompts must map names to texts.")
    if default is not None and default not in prompts:
        raise SourceError(f"{where}: the default prompt {default!r} is not one of {sorted(prompts)}.")
    similarity, dim = config.get("similarity_fn_name"), config.get("truncate_dim")
    if similarity is not None and similarity not in _SIMILARITIES:
        raise SourceError(
            f"{where}: similarity_fn_name is {similarity!r}; supported are {', '.join(_SIMILARITIES)}."
        )
    if dim is not None and (not isinstance(dim, int) or isinstance(dim, bool) or dim < 1):
        raise SourceError(f"{where}: truncate_dim is {dim!r}; expected a whole number of at least 1.")
    return {
        "prompts": {name: text or "" for name, text in prompts.items()},
        "default_prompt": next((name for name in _DOCUMENT_PROMPTS if name in prompts), default),
        "similarity": None if similarity is None else _SIMILARITIES[similarity],
        "truncate_dim": dim,
    }


def _join(folder: str, name: str) -> str:
    return (PurePosixPath(folder) / name).as_posix()
