"""Finds what a Keras architecture would run besides Keras' own classes, before Keras sees it.

Keras imports modules and looks up names that a file states. Here every name is looked up in a list
(``keras_objects``) or among the user's own objects; whatever is on neither counts as code.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from model_bundle.builders.keras.load.keras_objects import (
    allowed_texts,
    called_function,
    is_keras_class,
    is_keras_function,
)

_TRAINING = "compile_config"
_VOCABULARIES = ("StringLookup", "IntegerLookup", "TextVectorization")
_PATHS = ("vocabulary", "idf_weights")


def without_training(value: Any) -> Any:
    """Copies a configuration without the losses and metrics of training, which are not loaded."""
    if isinstance(value, dict):
        drop = {_TRAINING} if "class_name" in value else set()
        return {key: without_training(part) for key, part in value.items() if key not in drop}
    return [without_training(part) for part in value] if isinstance(value, list) else value


def find_code(config: Any, known: Collection[str]) -> tuple[str, ...]:
    """Finds objects that would run code from the file, or that are neither Keras' nor the user's.

    Args:
        config: an architecture, without training.
        known: names of the user's own classes and functions.

    Returns:
        One line per object.
    """
    return tuple(dict.fromkeys(_faults(config, known, "the model")))


def find_files(config: Any) -> tuple[str, ...]:
    """Finds vocabularies that are paths of files: Keras would read them into the model. One line each."""
    return tuple(
        f"{_where(item, 'a layer')}: {key} is {item['config'][key]!r}"
        for item in objects_in(config)
        if item["class_name"] in _VOCABULARIES and isinstance(item.get("config"), dict)
        for key in _PATHS
        if _is_path(item["config"].get(key))
    )


def name_own(value: Any, known: Collection[str]) -> Any:
    """Copies a configuration; the user's objects are named as Keras was given them, without modules."""
    if isinstance(value, list):
        return [name_own(part, known) for part in value]
    if not isinstance(value, dict):
        return value
    copied = {key: name_own(part, known) for key, part in value.items()}
    name = _own_name(value, known)
    if name is not None and value["class_name"] == "function":
        copied |= {"module": "builtins", "config": name, "registered_name": name}
    elif name is not None and "module" in value:
        copied |= {"module": None, "registered_name": name}
    return copied


def objects_in(value: Any) -> Iterator[dict[str, Any]]:
    """Yields every object that has a class, including nested ones."""
    if isinstance(value, dict):
        if isinstance(value.get("class_name"), str):
            yield value
        for part in value.values():
            yield from objects_in(part)
    elif isinstance(value, list):
        for part in value:
            yield from objects_in(part)


def _faults(value: Any, known: Collection[str], where: str) -> Iterator[str]:
    if isinstance(value, list):
        for part in value:
            yield from _faults(part, known, where)
    elif isinstance(value, dict):
        if "class_name" in value:
            where = _where(value, where)
            yield from _faults_of(value, known, where)
        for part in value.values():
            yield from _faults(part, known, where)


def _faults_of(item: dict[str, Any], known: Collection[str], where: str) -> Iterator[str]:
    name, inner = item["class_name"], item.get("config")
    module, registered_name = item.get("module"), item.get("registered_name")
    if name == "__lambda__":
        yield f"byte code of a Python function in {where}"
    elif _own_name(item, known) is not None:
        return
    elif name == "function":
        if not is_keras_function(str(inner), module, registered_name):
            yield f"the function {inner} of the module {module} in {where}, which is not one of Keras'"
    elif not isinstance(name, str) or not is_keras_class(name, module, registered_name):
        origin = f" would be imported from the module {module}" if module else " is not one of Keras' classes"
        under = "" if registered_name in (None, name) else f", under the name {registered_name}"
        yield f"{name}{origin}{under}, in {where}"
    elif isinstance(inner, dict):
        yield from _faults_of_keras_object(name, inner, known, where)


def _faults_of_keras_object(
    name: str, inner: dict[str, Any], known: Collection[str], where: str
) -> Iterator[str]:
    called = called_function(name, inner)
    if called is not None and not called[1]:
        yield f"{where} ({name}) calls {called[0]}, which is not on the list of functions that only compute"
    if name == "Lambda":
        yield from _faults_of_lambda(inner, known, where)
    for key, text in inner.items():
        allowed = allowed_texts(key)
        if allowed is not None and isinstance(text, str) and text not in allowed and text not in known:
            yield f"{where}: {key} is {text!r}, which is not one of Keras'"


def _faults_of_lambda(inner: dict[str, Any], known: Collection[str], where: str) -> Iterator[str]:
    for key in ("function", "output_shape", "mask"):
        value, kind = inner.get(key), inner.get(f"{key}_type")
        if kind == "lambda" or (key == "function" and isinstance(value, list)):
            yield f"{where} (Lambda) is byte code of a Python function"
        elif isinstance(value, str) and value not in known:
            yield f"{where} (Lambda): {key} is {value!r}, a function of your own code"
        elif key == "function" and isinstance(value, dict) and "class_name" not in value:
            yield f"{where} (Lambda): {key} is in an unknown form"


def _own_name(item: dict[str, Any], known: Collection[str]) -> str | None:
    """Returns the name under which Keras was given the user's object that this names; None if it is none.

    A name that is registered as ``package>Name`` counts for the object Name alone.
    """
    is_function = item.get("class_name") == "function"
    name, registered_name = item.get("config" if is_function else "class_name"), item.get("registered_name")
    if not isinstance(name, str):
        return None
    if name in known:
        return name
    same = isinstance(registered_name, str) and registered_name.rpartition(">")[2] == name.rpartition(">")[2]
    return registered_name if same and registered_name in known else None


def _is_path(value: Any) -> bool:
    """Whether a vocabulary is anything but a list: Keras takes a text as the path of a file."""
    if isinstance(value, dict):
        return value.get("class_name") not in ("__tuple__", "__numpy__", "__tensor__")
    return value is not None and not isinstance(value, list)


def _where(item: dict[str, Any], above: str) -> str:
    inner = item.get("config")
    name = item.get("name") or (inner.get("name") if isinstance(inner, dict) else None)
    return f"the layer {name}" if name else above
