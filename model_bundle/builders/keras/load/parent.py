"""Plans how a Keras file is loaded, and loads it in a separate process with the Keras that made it."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import replace
from glob import escape
from pathlib import Path
from typing import Any, Literal

from model_bundle.base.confined import run_confined
from model_bundle.base.sandbox import Limits
from model_bundle.base.untrusted.printable import one_line
from model_bundle.builders.keras.call_order import check_call_order
from model_bundle.builders.keras.load.byte_code import WAY_OUT
from model_bundle.builders.keras.load.child import LoadAnswer, LoadTask, lambda_name, load_in_child
from model_bundle.builders.keras.load.code_check import find_code, name_own, without_training
from model_bundle.builders.keras.load.config import (
    ModelConfig,
    hub_handles,
    read_config,
    reject_code,
    reject_files,
    transformers_layers,
)
from model_bundle.builders.keras.load.custom_objects import object_names
from model_bundle.builders.keras.load.transformers import CUSTOM, KINDS, MAIN_LAYERS, STAND_INS
from model_bundle.builders.keras.options import LoadChoices
from model_bundle.builders.keras.packed_bundle import OWN_LAYERS
from model_bundle.builders.keras.source import KerasSource, check_parts, kind_of
from model_bundle.builders.tfhub.handle import cache_folder, is_saved_model
from model_bundle.bundle.graph_scan.allowed_operations import reaches_outside
from model_bundle.errors import ModelCrashError, SourceError

Generation = Literal[2, 3]
_REGISTERED = tuple(f"{CUSTOM}{name}" for name in MAIN_LAYERS)
_HUB_LAYER = "KerasLayer"
_OTHER_PYTHON = f" The file has byte code, which another version of Python may have made. {WAY_OUT}"
HUB_OBJECT = f"tensorflow_hub:{_HUB_LAYER}"


def run_task(task: LoadTask, generation: Generation) -> LoadAnswer:
    """Loads a model in a confined process of its own, in which ``tf.keras`` is Keras 2 or Keras 3."""
    limits = None if any(map(reaches_outside, task.allow_ops)) else _limits(task)
    try:
        answer = run_confined(limits, load_in_child, task, generation == 2)
    except ModelCrashError as error:
        return LoadAnswer(fault=f"{error}{_OTHER_PYTHON if task.allow_code else ''}")
    compared_with = answer["compared_with"]
    return LoadAnswer(
        tuple(map(str, answer["notes"])),
        answer["fault"],
        None if compared_with is None else one_line(str(compared_with)),
        {str(old): str(new) for old, new in answer["renamed"].items()},
    )


def _limits(task: LoadTask) -> Limits:
    """Lets the process read what the task names; where the user's own code runs in it, all it may need."""
    own_code = [name for name in task.custom_objects if name != HUB_OBJECT]
    if own_code or task.lambdas or task.factory:
        return Limits(Path(task.output).parent, readable=None)
    places = [Path(task.path), *([] if task.weights is None else [Path(task.weights)])]
    # The prefix of a checkpoint is no file: its parts are.
    files = [part for place in places for part in place.parent.glob(f"{escape(place.name)}*")]
    handles = hub_handles(ModelConfig(json.loads(task.config), None, ""))
    named = [Path(handle) for handle in handles if is_saved_model(Path(handle))]
    modules = [*map(Path, task.hub_handles.values()), *map(Path, map(cache_folder, handles)), *named]
    return Limits(Path(task.output).parent, (*files, *modules))


def plan(
    source: KerasSource, choices: LoadChoices, output: Path, allow_ops: Sequence[str] = ()
) -> tuple[LoadTask, tuple[Generation, ...], tuple[str, ...]]:
    """Decides how a file is loaded, from its content.

    Returns:
        The task, the versions of Keras to try in order, and notes.

    Raises:
        SourceError: the file contains code that was not allowed, or something is missing for loading.
    """
    if choices.model_factory is not None or source.kind in ("h5_weights", "checkpoint"):
        made, both, nothing = _factory_plan(source, choices, output)
        return replace(made, allow_ops=tuple(allow_ops)), both, nothing
    config = read_config(source)
    stand_ins = _check_transformers(config, source)
    objects = _objects(config, choices)
    names = (
        *object_names(objects),
        *STAND_INS,
        *_REGISTERED,
        *OWN_LAYERS,
        *map(lambda_name, choices.lambdas),
    )
    config = replace(config, config=_with_functions(without_training(config.config), choices.lambdas))
    reject_files(config)
    check_call_order(config.config, config.where)
    code = find_code(config.config, names)
    if not choices.allow_code:
        reject_code(config, code)
        config = replace(config, config=name_own(config.config, names))
    task = LoadTask(
        kind={"keras_zip": "zip", "h5_model": "h5", "architecture": "json"}[source.kind],  # type: ignore[arg-type]
        path=str(source.path),
        config=json.dumps(config.config),
        weights=_weights(source, choices),
        factory="",
        custom_objects=objects,
        hub_handles={handle: str(folder) for handle, folder in choices.hub_handles.items()},
        lambdas=dict(choices.lambdas),
        allow_code=choices.allow_code,
        stand_ins=stand_ins,
        output=str(output),
        allow_ops=tuple(allow_ops),
    )
    generations: tuple[Generation, ...] = (
        (3,) if config.is_keras_3 else (2, 3) if source.kind == "h5_model" else (2,)
    )
    return task, generations, tuple(f"runs: {line}, allowed by --allow_code" for line in code)


def _factory_plan(
    source: KerasSource, choices: LoadChoices, output: Path
) -> tuple[LoadTask, tuple[Generation, ...], tuple[str, ...]]:
    if choices.model_factory is None:
        raise SourceError(
            f"{source.path} contains weights without an architecture. Name the architecture's JSON as "
            "SOURCE and these as --weights, or the function that builds the model: "
            "--model_factory MODULE:FUNCTION"
        )
    if choices.weights is not None or choices.lambdas or source.kind in ("architecture", "saved_model"):
        raise SourceError(
            f"--model_factory builds the model, and SOURCE contains its weights: HDF5, .keras or a "
            f"checkpoint. {source.path} is a {source.title}; omit --weights and --lambda_function."
        )
    task = LoadTask(
        kind="factory",
        path=str(source.path),
        config="",
        weights=str(source.path),
        factory=choices.model_factory,
        custom_objects=choices.custom_objects,
        hub_handles={handle: str(folder) for handle, folder in choices.hub_handles.items()},
        lambdas={},
        allow_code=choices.allow_code,
        stand_ins=True,
        output=str(output),
    )
    return task, (2, 3), ()


def _weights(source: KerasSource, choices: LoadChoices) -> str | None:
    """Finds the weights of an architecture: as named, or the only ones next to it."""
    if choices.weights is not None and source.kind == "keras_zip":
        raise SourceError(
            f"--weights: {source.path} contains its own. To use others, name the architecture or factory."
        )
    if choices.weights is not None:
        if kind_of(choices.weights) not in ("h5_weights", "h5_model", "keras_zip", "checkpoint"):
            raise SourceError(f"--weights {choices.weights}: expected HDF5, or the prefix of a checkpoint.")
        place = choices.weights
        return str(place.with_suffix("") if place.suffix == ".index" else place)
    if source.kind != "architecture":
        return None
    siblings = [
        path for path in sorted(source.path.parent.iterdir()) if path.is_file() and path.suffix != ".json"
    ]
    found = [
        path.with_suffix("") if path.suffix == ".index" else path
        for path in siblings
        if kind_of(path) in ("h5_weights", "checkpoint")
    ]
    if len(found) == 1:
        check_parts(source.path.parent, found[0])
        return str(found[0])
    listed = "".join(f"\n  --weights {path}" for path in found) or "; there are none next to it."
    raise SourceError(f"{source.path} is an architecture; name its weights{listed}")


def _objects(config: ModelConfig, choices: LoadChoices) -> tuple[str, ...]:
    """Adds TF-Hub's own layer if the file has one."""
    named = object_names(choices.custom_objects)
    if _HUB_LAYER in named or not hub_handles(config):
        return choices.custom_objects
    return (*choices.custom_objects, HUB_OBJECT)


def _check_transformers(config: ModelConfig, source: KerasSource) -> bool:
    """Whether there are models of transformers; rejects those without a stand-in."""
    layers = transformers_layers(config)
    unknown = [name for name in layers if name not in STAND_INS]
    if unknown:
        models = ", ".join(f"TF{name}Model" for name in KINDS)
        raise SourceError(
            f"{source.path} contains {', '.join(unknown)} of transformers, whose version 5 has no TensorFlow "
            f"models. Supported in Keras files are {models}, and …ForSequenceClassification and …MainLayer "
            "of the same names. Build from a SavedModel of the same model, which contains the whole graph: "
            "model.save(DIR) made one."
        )
    return bool(layers)


def _replace_function(inner: dict[str, Any]) -> None:
    """Replaces byte code in a Lambda layer's configuration by a named function, in the form of its Keras."""
    name = lambda_name(inner["name"])
    if "function_type" not in inner:
        inner["function"] = {
            "module": "builtins",
            "class_name": "function",
            "config": name,
            "registered_name": name,
        }
        return
    inner |= {"function": name, "function_type": "function", "module": None}
    if inner.get("output_shape_type") == "lambda":
        inner |= {"output_shape": None, "output_shape_type": "raw"}


def _with_functions(config: dict[str, Any], lambdas: Any) -> dict[str, Any]:
    """Replaces byte code by the user's functions.

    Raises:
        SourceError: there is no Lambda layer of a given name.
    """
    changed = copy.deepcopy(config)
    replaced = set()
    for item in ModelConfig(changed, None, "").layers():
        inner = item.get("config")
        if item["class_name"] == "Lambda" and isinstance(inner, dict) and inner.get("name") in lambdas:
            _replace_function(inner)
            replaced.add(inner["name"])
        elif item["class_name"] == "Lambda" and isinstance(inner, dict) and "module" in inner:
            # Byte code looks up names there, and the user's objects are put there.
            inner["module"] = "__main__"
        if item["class_name"] in STAND_INS and isinstance(inner, dict) and "name" in item:
            inner["name"] = item["name"]
    absent = sorted(set(lambdas) - replaced)
    if absent:
        raise SourceError(f"--lambda_function {absent[0]}: the model has no Lambda layer with that name.")
    return changed
