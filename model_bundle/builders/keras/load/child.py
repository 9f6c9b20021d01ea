"""Loads a Keras model and saves its inference as a plain SavedModel; runs in a separate process.

Keras 2 (tf_keras) and Keras 3 cannot both be ``tf.keras`` in one process, and side effects of a model's code
stay in that process.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import warnings
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from model_bundle.base.untrusted.hdf5 import open_hdf5
from model_bundle.base.untrusted.zips import open_zip
from model_bundle.builders.keras.load.byte_code import check_byte_code
from model_bundle.builders.keras.load.custom_objects import load_object, load_objects, redirect_handles
from model_bundle.builders.keras.load.save import save_inference
from model_bundle.builders.keras.load.stored_weights import read_values
from model_bundle.builders.keras.load.transformers import install_stand_ins, stand_ins
from model_bundle.builders.keras.load.weights import check_loaded, load_weights, unzip_weights
from model_bundle.builders.keras.packed_bundle import OWN_PREFIX
from model_bundle.errors import ModelBundleError, SourceError

_MAX_CHARS = 700
# Paragraphs that only surround an error; and a line that begins with the name of an error, with its block.
_AROUND = (
    "Exception encountered when calling",
    "Error when deserializing",
    "Call arguments received",
    "Arguments received",
    "in user code",
)
_CAUSE = "Exception encountered: "
_FEWER_OUTPUTS = (
    ". If the file uses an output that a model of transformers does not return: hidden states need "
    "output_hidden_states=True in its configuration or its call. Build from a SavedModel of the same model, "
    "which contains the whole graph: model.save(DIR) made one."
)
_INNER = re.compile(r"^[ \t]*(\w+(?:Error|Exception): .*(?:\n(?!\s*\n).*)*)", re.MULTILINE)


@dataclass(frozen=True)
class LoadTask:
    """A Keras model to load, and the place to save it.

    ``kind``: ``zip`` (a .keras file), ``h5`` (a whole model), ``json`` (an architecture) or ``factory``.
    ``path``: the file; empty for a factory. ``config``: the architecture in JSON, checked. ``weights``: a
    file, or the prefix of a checkpoint; None if ``path`` contains them. ``lambdas``: ``module:function`` by
    the name of a Lambda layer. ``stand_ins``: replace transformers' models by our own graphs. ``output``: a
    folder to create. The rest is as in ``LoadChoices``.
    """

    kind: Literal["zip", "h5", "json", "factory"]
    path: str
    config: str
    weights: str | None
    factory: str
    custom_objects: tuple[str, ...]
    hub_handles: dict[str, str]
    lambdas: dict[str, str]
    allow_code: bool
    stand_ins: bool
    output: str
    allow_ops: tuple[str, ...] = ()


@dataclass(frozen=True)
class LoadAnswer:
    """The result of a task: ``fault`` is None if the model was saved; ``notes`` are for its user.

    ``compared_with``: what the results of the saved model were compared with; see ``compare_with_keras``.
    ``renamed``: an input's name in the saved model by its name in the Keras model, where these differ.
    """

    notes: tuple[str, ...] = ()
    fault: str | None = None
    compared_with: str | None = None
    renamed: dict[str, str] = field(default_factory=dict)


def load_in_child(task: LoadTask, legacy: bool) -> dict[str, Any]:
    """Does a task in a process that has done nothing yet, and returns the fields of the answer."""
    start_keras(legacy)
    return asdict(export_keras(task))


def start_keras(legacy: bool) -> None:
    """Sets which Keras ``tf.keras`` is, before TensorFlow is imported, and silences its warnings."""
    os.environ["TF_USE_LEGACY_KERAS"] = "1" if legacy else "0"
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    os.environ["TRANSFORMERS_NO_ADVISORY_WARNINGS"] = "1"
    warnings.simplefilter("ignore")
    from model_bundle.runtime.tensorflow_setup import import_tensorflow

    import_tensorflow()
    if legacy:
        # Code of that time also imports Keras 2 as ``keras``.
        import tf_keras

        sys.modules["keras"] = tf_keras


def export_keras(task: LoadTask) -> LoadAnswer:
    """Loads, checks and saves a model. Errors are returned as text, since they may not be picklable."""
    try:
        return _export(task)
    except ModelBundleError as error:
        # Keras adds to what is raised inside a layer.
        is_wrapped = str(error).startswith(_AROUND)
        return LoadAnswer(fault=_cause(error).partition(": ")[2] if is_wrapped else str(error))
    except IndexError as error:
        return LoadAnswer(fault=_cause(error) + (_FEWER_OUTPUTS if task.stand_ins else ""))
    # Keras and the model's own code may raise anything.
    except Exception as error:  # the boundary of this process
        return LoadAnswer(fault=_cause(error))


def _cause(error: Exception) -> str:
    """Returns the innermost error of a message that may also quote the user's and Keras' code."""
    text = str(error).strip()
    inner = _INNER.findall(text)
    paragraphs = [part.strip() for part in text.split("\n\n")]
    causes = [part.removeprefix(_CAUSE) for part in paragraphs if part.startswith(_CAUSE)]
    parts = [*reversed(causes), *(part for part in paragraphs if part and not part.startswith(_AROUND)), text]
    found = inner[-1].strip() if inner else f"{type(error).__name__}: {parts[0]}"
    return found[:_MAX_CHARS]


def _export(task: LoadTask) -> LoadAnswer:
    redirect_handles(task.hub_handles, task.allow_ops)
    if OWN_PREFIX in task.config:
        # Importing the layers registers them with Keras.
        import_module("model_bundle.layers")
    objects = load_objects(task.custom_objects, "--custom_objects")
    if task.stand_ins:
        objects |= stand_ins()
    if task.kind == "factory":
        install_stand_ins()
    for layer, place in task.lambdas.items():
        objects[lambda_name(layer)] = load_object(place, "--lambda_function")
    if task.allow_code and task.config:
        check_byte_code(json.loads(task.config))
    if task.allow_code:
        # The configuration makes byte code look up names in ``__main__``.
        vars(sys.modules["__main__"]).update(objects)
    scratch = Path(task.output + ".scratch")
    scratch.mkdir()
    model, notes = _load(task, objects, scratch)
    compared_with, renamed = save_inference(model, Path(task.output))
    return LoadAnswer(notes, compared_with=compared_with, renamed=renamed)


def lambda_name(layer: str) -> str:
    """Returns the name under which a Lambda layer's function is registered."""
    return f"function_of_{layer}"


def _load(task: LoadTask, objects: dict[str, Any], scratch: Path) -> tuple[Any, tuple[str, ...]]:
    weights = None if task.weights is None else Path(task.weights)
    if task.kind == "factory":
        model = load_object(task.factory, "--model_factory")()
        _check_built(model, task.factory)
    elif task.kind == "zip":
        return _load_zip(task, objects, scratch)
    else:
        model = _from_config(task, objects, scratch)
    if weights is None:
        weights = Path(task.path)
    return model, load_weights(model, weights, scratch)


def _load_zip(task: LoadTask, objects: dict[str, Any], scratch: Path) -> tuple[Any, tuple[str, ...]]:
    """Loads a .keras file with Keras, then checks that every weight in the file is in the model, and back."""
    import zipfile

    import tensorflow as tf

    copy = scratch / "model.keras"
    # Keras opens the weights itself, so a look at them comes first.
    stored = read_values(unzip_weights(Path(task.path), scratch))
    with open_zip(Path(task.path), task.path) as source:
        # Keras 2 reads assets while it has the weights open. Python 3.12.0 to 3.13.1 then lose their place in
        # the weights, unless these are compressed: https://github.com/python/cpython/issues/127847
        has_assets = any(name.startswith("assets/") for name in source.namelist())
        method = zipfile.ZIP_DEFLATED if has_assets else zipfile.ZIP_STORED
        with zipfile.ZipFile(copy, "w", method, compresslevel=1) as target:
            for name in source.namelist():
                if name == "config.json":
                    target.writestr(name, task.config)
                    continue
                with source.open(name) as packed, target.open(name, "w", force_zip64=True) as unpacked:
                    shutil.copyfileobj(packed, unpacked)
    model = tf.keras.models.load_model(
        str(copy), custom_objects=objects, compile=False, safe_mode=not task.allow_code
    )
    return model, check_loaded(model, stored, task.path)


def _from_config(task: LoadTask, objects: dict[str, Any], scratch: Path) -> Any:
    """Builds a model from an architecture; weights are loaded later, by name."""
    import tensorflow as tf

    if not hasattr(tf.keras, "version") or not tf.keras.version().startswith("3"):
        from tf_keras.src.saving.serialization_lib import SafeModeScope

        with SafeModeScope(not task.allow_code):
            return tf.keras.models.model_from_json(task.config, custom_objects=objects)
    if task.kind == "h5":
        copy = scratch / "model.h5"
        shutil.copyfile(task.path, copy)
        _replace_config(copy, task.config)
        return tf.keras.models.load_model(
            str(copy), custom_objects=objects, compile=False, safe_mode=not task.allow_code
        )
    if task.allow_code:
        tf.keras.config.enable_unsafe_deserialization()
    return tf.keras.models.model_from_json(task.config, custom_objects=objects)


def _replace_config(path: Path, config: str) -> None:
    with open_hdf5(path, "r+") as file:
        file.attrs["model_config"] = config


def _check_built(model: Any, factory: str) -> None:
    if not hasattr(model, "weights") or not getattr(model, "built", False):
        raise SourceError(
            f"--model_factory {factory}: expected a built Keras model, which has its weights, but got a "
            f"{type(model).__name__}. Call it once on an input of the right shape before returning it."
        )
