"""Reads the modules of a sentence-transformers folder after the encoder: pooling, dense layers, norms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from model_bundle.builders.known_settings import (
    SENTENCE_DENSE,
    SENTENCE_DROPOUT,
    SENTENCE_LAYER_NORM,
    SENTENCE_POOLING,
)
from model_bundle.builders.source_folder import SourceFolder, check_inside
from model_bundle.builders.weights.read import SAFETENSORS, find_weights
from model_bundle.bundle.specs import ModuleSpec, Pooling
from model_bundle.errors import SourceError, WeightsMismatchError

# Newer folders name the pooling modes; older ones have a switch for each, joined in this order.
_MODES = {
    "cls": Pooling.FIRST,
    "max": Pooling.MAX,
    "mean": Pooling.MEAN,
    "mean_sqrt_len_tokens": Pooling.MEAN_SQRT_LEN,
    "weightedmean": Pooling.WEIGHTED_MEAN,
    "lasttoken": Pooling.LAST,
}
_SWITCHES = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
# Classes of torch.nn, created without arguments, and so with their defaults.
ACTIVATIONS = (
    *("Identity", "Tanh", "ReLU", "GELU", "SiLU", "Sigmoid", "ELU", "LeakyReLU", "Softplus", "Mish"),
)
_TORCH = "torch.nn."


def read_pooling(folder: SourceFolder, name: str) -> tuple[tuple[Pooling, ...], bool]:
    """Returns the poolings that are joined, and whether tokens of the prompt are pooled, too.

    Raises:
        SourceError: the file is missing, or sets what a bundle cannot express.
    """
    config = folder.json_object(name)
    where = folder.root / name
    if config is None:
        raise SourceError(f"{where} is missing: it specifies how token states are pooled to one vector.")
    SENTENCE_POOLING.check(config, str(where))
    mode = config.get("pooling_mode")
    if mode is None:
        # All switches off means the mean, as in sentence-transformers.
        mode = [mode for key, mode in _SWITCHES.items() if stated_flag(config, key, False, where)] or ["mean"]
    modes = [mode] if isinstance(mode, str) else mode
    if not isinstance(modes, list) or not modes or not all(each in _MODES for each in modes):
        raise SourceError(f"{where}: pooling_mode is {mode!r}; supported are {', '.join(_MODES)}.")
    return tuple(_MODES[each] for each in modes), stated_flag(config, "include_prompt", True, where)


def read_modules(
    folder: SourceFolder, modules: Sequence[tuple[str, str]]
) -> tuple[tuple[ModuleSpec, ...], dict[str, np.ndarray]]:
    """Reads what follows the pooling; a dropout has no effect and is left out.

    Args:
        folder: the model's.
        modules: kind and folder of each.

    Returns:
        The modules, and their weights, named as ``SentenceHead`` has them.

    Raises:
        SourceError: a module is of another kind, or has a setting that is not known.
        WeightsMismatchError: weights do not match the settings.
    """
    specs: list[ModuleSpec] = []
    weights: dict[str, np.ndarray] = {}
    for kind, path in modules:
        config = folder.json_object((PurePosixPath(path) / "config.json").as_posix())
        where = str(folder.root / path / "config.json")
        if kind == "Dropout":
            SENTENCE_DROPOUT.check(config or {}, where)
        elif kind == "Normalize":
            specs.append(ModuleSpec(kind="normalize"))
        elif kind == "Dense":
            spec, found = _dense(folder, path, _stated(config, where), where)
            weights |= {f"{len(specs)}/{name}": array for name, array in found.items()}
            specs.append(spec)
        elif kind == "LayerNorm":
            found = _layer_norm(folder, path, _stated(config, where), where)
            weights |= {f"{len(specs)}/{name}": array for name, array in found.items()}
            specs.append(ModuleSpec(kind="layer_norm"))
        else:
            raise SourceError(
                f"{folder.root} has the module {kind}, which a bundle cannot express; after its pooling, "
                "supported are Dense, LayerNorm, Dropout and Normalize. To omit all of them knowingly, build "
                "from the encoder's own folder with --pooling."
            )
    return tuple(specs), weights


def _stated(config: dict[str, Any] | None, where: str) -> dict[str, Any]:
    if config is None:
        raise SourceError(f"{where} is missing: it specifies a module of the model. Download it again.")
    return config


def _dense(
    folder: SourceFolder, path: str, config: dict[str, Any], where: str
) -> tuple[ModuleSpec, dict[str, np.ndarray]]:
    SENTENCE_DENSE.check(config, where)
    name = str(config.get("activation_function") or "torch.nn.Tanh")
    activation = name.rsplit(".", 1)[-1]
    if not name.startswith(_TORCH) or activation not in ACTIVATIONS:
        raise SourceError(
            f"{where}: activation_function is {name!r}; supported are those of torch.nn: "
            f"{', '.join(ACTIVATIONS)}."
        )
    inputs, outputs = (_size(config, key, where) for key in ("in_features", "out_features"))
    shapes: dict[str, tuple[int, ...]] = {"linear.weight": (outputs, inputs), "linear.bias": (outputs,)}
    if not stated_flag(config, "bias", True, where):
        del shapes["linear.bias"]
    stored = _weights(folder, path, shapes)
    kernel = np.ascontiguousarray(stored["linear.weight"].T)
    bias = stored.get("linear.bias", np.zeros(outputs, np.float32))
    return ModuleSpec(kind="dense", activation=activation.lower()), {"kernel": kernel, "bias": bias}


def _layer_norm(folder: SourceFolder, path: str, config: dict[str, Any], where: str) -> dict[str, np.ndarray]:
    SENTENCE_LAYER_NORM.check(config, where)
    dim = _size(config, "dimension", where)
    stored = _weights(folder, path, {"norm.weight": (dim,), "norm.bias": (dim,)})
    return {"gamma": stored["norm.weight"], "beta": stored["norm.bias"]}


def _size(config: dict[str, Any], key: str, where: str) -> int:
    value = config.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise SourceError(f"{where}: {key!r} is {value!r}; expected a whole number of at least 1.")
    return value


def stated_flag(config: Mapping[str, Any], key: str, default: bool, where: object) -> bool:
    """Returns a switch; null and a missing one mean the default.

    Raises:
        SourceError: it is neither true nor false.
    """
    value = config.get(key)
    if value is not None and not isinstance(value, bool):
        raise SourceError(f"{where}: {key!r} is {value!r}; expected true or false.")
    return default if value is None else value


def _weights(folder: SourceFolder, path: str, shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Reads the weights of a module, which must be exactly these; pickles are refused as elsewhere."""
    own = folder.root / path
    check_inside(folder.root, own)
    # Only safetensors: TensorFlow formats never held modules.
    inner = SourceFolder(own)
    stored = find_weights(inner)
    if stored.format != "safetensors":
        raise SourceError(f"{own} has weights as {stored.format}; expected {SAFETENSORS}.")
    folder.mark(stored.files)
    missing, unused = sorted(shapes.keys() - stored.shapes), sorted(stored.shapes.keys() - shapes)
    wrong = [
        f"{name}: stored {stored.shapes[name]}, expected {shape}"
        for name, shape in shapes.items()
        if name in stored.shapes and stored.shapes[name] != shape
    ]
    if missing or unused or wrong:
        raise WeightsMismatchError(str(own), missing=missing, unused=unused, wrong_shapes=wrong)
    return {name: stored.read(name) for name in shapes}
