"""Reads what sentence-transformers' CrossEncoder saved beside a head that scores two texts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from model_bundle.builders.known_settings import CROSS_ENCODER, CROSS_ENCODER_LIMITS
from model_bundle.builders.source_folder import SourceFolder, read_json
from model_bundle.errors import SourceError

SETTINGS = "config_sentence_transformers.json"
_LIMITS = "sentence_bert_config.json"
_MODULES = "modules.json"
# By the last name of the class, whatever its module.
_ACTIVATIONS: dict[str, Literal["sigmoid", "as_is"]] = {"Sigmoid": "sigmoid", "Identity": "as_is"}


def is_cross_encoder(folder: SourceFolder) -> bool:
    """Whether sentence-transformers saved the folder as a CrossEncoder."""
    return (folder.json_object(SETTINGS) or {}).get("model_type") == "CrossEncoder"


def read_cross_encoder(folder: SourceFolder) -> int | None:
    """Checks that a CrossEncoder is a head on an encoder and nothing else; returns its token limit, if any.

    Raises:
        SourceError: it has other modules, a prompt, or a setting that is not known.
    """
    path = folder.find(_MODULES)
    if path is not None:
        listed = read_json(path)
        listed = listed if isinstance(listed, list) else []
        modules = [each if isinstance(each, dict) else {} for each in listed]
        kinds = [str(module.get("type", "")).rsplit(".", 1)[-1] for module in modules]
        if kinds != ["Transformer"] or modules[0].get("path"):
            raise SourceError(
                f"{path} chains {', '.join(kinds) or 'nothing'}; expected one Transformer with its "
                "classification head in this folder. Other CrossEncoders are not supported."
            )
    limits = folder.json_object(_LIMITS) or {}
    CROSS_ENCODER_LIMITS.check(limits, str(folder.root / _LIMITS))
    settings = folder.json_object(SETTINGS) or {}
    CROSS_ENCODER.check(settings, str(folder.root / SETTINGS))
    if any((settings.get("prompts") or {}).values()):
        raise SourceError(
            f"{folder.root / SETTINGS} has prompts; a bundle for pairs scores two texts as they are. Remove "
            "them from the file and put the words into the first text."
        )
    return limits.get("max_seq_length")


def stated_activation(
    config: Mapping[str, Any], folder: SourceFolder, where: str
) -> Literal["sigmoid", "as_is"] | None:
    """Returns how a CrossEncoder turns logits into scores; None if the files are not of one.

    Without a stated activation, a CrossEncoder with one label applies the sigmoid.

    Args:
        config: the content of ``config.json``.
        folder: may have the settings of a CrossEncoder.
        where: the configuration's file, for errors.

    Raises:
        SourceError: it states another activation.
    """
    settings = folder.json_object(SETTINGS) or {}
    own = config.get("sentence_transformers")
    stated = (
        settings.get("activation_fn")
        or (own.get("activation_fn") if isinstance(own, Mapping) else None)
        or config.get("sbert_ce_default_activation_function")
    )
    if stated is None:
        return "sigmoid" if is_cross_encoder(folder) else None
    name = str(stated).rsplit(".", 1)[-1]
    if name not in _ACTIVATIONS:
        raise SourceError(
            f"{where}: the activation of its scores is {stated!r}; supported are {', '.join(_ACTIVATIONS)}. "
            "Choose one yourself with --scores."
        )
    return _ACTIVATIONS[name]
