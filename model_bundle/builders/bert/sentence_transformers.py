"""Reads the settings of a sentence-transformers folder: ``modules.json`` and the files it names."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from model_bundle.builders.known_settings import SENTENCE_LIMITS, SENTENCE_POOLING, SENTENCE_PROMPTS
from model_bundle.builders.source_folder import SourceFolder, read_json
from model_bundle.bundle.specs import Pooling
from model_bundle.errors import SourceError

MODULES = "modules.json"
_PROMPTS = "config_sentence_transformers.json"
# Newer folders name the pooling mode; older ones have a switch for each.
_MODES = {"cls": Pooling.FIRST, "mean": Pooling.MEAN, "max": Pooling.MAX, "lasttoken": Pooling.LAST}
_SWITCHES = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
_LIMITS = tuple(
    f"sentence_{kind}_config.json"
    for kind in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta")
)
_ENCODERS = ("Transformer", "BERT", "RoBERTa", "DistilBERT", "CamemBERT", "ALBERT", "XLMRoBERTa")


@dataclass(frozen=True)
class SentenceModel:
    """The settings of a folder; None if not stated. ``encoder_path`` is relative to the folder."""

    encoder_path: str
    pooling: Pooling | None
    normalize: bool
    max_tokens: int | None = None
    lowercase: bool = False
    prompts: dict[str, str] = field(default_factory=dict)
    default_prompt: str | None = None


def read_sentence_model(folder: SourceFolder) -> SentenceModel | None:
    """Reads a folder's modules; None if it has no ``modules.json``.

    Raises:
        SourceError: a bundle cannot express a module, pooling or setting.
    """
    path = folder.find(MODULES)
    if path is None:
        return None
    modules = _modules(read_json(path), str(path))
    kinds = [kind for kind, _ in modules]
    if kinds[:2] != ["Transformer", "Pooling"] or kinds[2:] not in ([], ["Normalize"]):
        raise SourceError(
            f"{path} chains {', '.join(kinds)}. A bundle holds an encoder, its pooling and, at most, a "
            "normalisation. A Dense layer changes the vector after pooling, which a bundle cannot express: "
            "to omit it knowingly, build from the encoder's own folder with --pooling."
        )
    encoder_path, pooling_path = modules[0][1], modules[1][1]
    limits = next((found for name in _LIMITS if (found := folder.json_object(_join(encoder_path, name)))), {})
    SENTENCE_LIMITS.check(limits, f"{folder.root / encoder_path}: the configuration of its encoder")
    if limits.get("transformer_task", "feature-extraction") != "feature-extraction":
        raise SourceError(f"{path}: the task {limits['transformer_task']!r} does not give embeddings.")
    prompts, default = _prompts(folder)
    return SentenceModel(
        encoder_path=encoder_path,
        pooling=_pooling(folder, _join(pooling_path, "config.json")),
        normalize=kinds[2:] == ["Normalize"],
        max_tokens=limits.get("max_seq_length"),
        lowercase=bool(limits.get("do_lower_case")),
        prompts=prompts,
        default_prompt=default,
    )


def _modules(content: Any, where: str) -> list[tuple[str, str]]:
    """Returns kind and folder of each module; a kind is a class name without its package."""
    try:
        found = [(str(module["type"]).rsplit(".", 1)[-1], str(module["path"])) for module in content]
    except (TypeError, KeyError) as error:
        raise SourceError(f"{where} does not list modules with a type and a path.") from error
    for _, path in found:
        if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
            raise SourceError(f"{where} points outside its folder: {path}.")
    return [("Transformer" if kind in _ENCODERS else kind, path) for kind, path in found]


def _pooling(folder: SourceFolder, name: str) -> Pooling:
    config = folder.json_object(name)
    where = folder.root / name
    if config is None:
        raise SourceError(f"{where} is missing: it specifies how token states are pooled to one vector.")
    SENTENCE_POOLING.check(config, str(where))
    mode = config.get("pooling_mode")
    modes = [mode] if isinstance(mode, str) else list(mode or ())
    if mode is None:
        # All switches off means the mean, as in sentence-transformers.
        modes = [mode for switch, mode in _SWITCHES.items() if config.get(switch)] or ["mean"]
    if len(modes) != 1 or modes[0] not in _MODES:
        raise SourceError(
            f"{where} pools by {' and '.join(map(str, modes))}; a bundle pools by one of {', '.join(_MODES)}."
        )
    if not config.get("include_prompt", True):
        raise SourceError(f"{where} excludes prompt tokens from pooling, which a bundle cannot.")
    return _MODES[modes[0]]


def _prompts(folder: SourceFolder) -> tuple[dict[str, str], str | None]:
    """Reads prompts by name, and the default's name. Empty ones are kept: their names may be used."""
    config = folder.json_object(_PROMPTS) or {}
    SENTENCE_PROMPTS.check(config, str(folder.root / _PROMPTS))
    prompts = config.get("prompts") or {}
    default = config.get("default_prompt_name")
    if not isinstance(prompts, dict) or not all(isinstance(text, str) for text in prompts.values()):
        raise SourceError(f"{folder.root / _PROMPTS}: prompts must map names to texts.")
    if default is not None and default not in prompts:
        raise SourceError(
            f"{folder.root / _PROMPTS}: the default prompt {default!r} is not one of {sorted(prompts)}."
        )
    return prompts, default


def _join(folder: str, name: str) -> str:
    return (PurePosixPath(folder) / name).as_posix()
