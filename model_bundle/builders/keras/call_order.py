"""Checks that the calls of layers in an architecture of Keras 2 can be made one after the other.

A call waits for the results that it takes. Where one waits for itself, or for a call that is nowhere, Keras 2
never ends; Keras 3 says so itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from model_bundle.errors import SourceError

# What stands for a value that no layer computed.
_CONSTANT = "_CONSTANT_VALUE"
_INPUT = "InputLayer"
_NUM_LISTED = 4


def check_call_order(config: Any, where: str) -> None:
    """Checks every functional model in an architecture.

    Raises:
        SourceError: some layers can never be called.
    """
    for layers in _models(config):
        waiting = _never_called(layers)
        if waiting:
            listed = ", ".join(waiting[:_NUM_LISTED])
            raise SourceError(
                f"{where}: the layers {listed} wait for each other, or for calls that are not in the file; "
                "Keras would never finish. The file is damaged; save the model again."
            )


def _models(value: Any) -> Iterator[list[Any]]:
    """Yields the layers of every model."""
    if isinstance(value, dict) and isinstance(value.get("layers"), list):
        yield value["layers"]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for part in parts:
        yield from _models(part)


def _never_called(layers: list[Any]) -> tuple[str, ...]:
    """Performs the calls that can be made until none can; returns the names of layers with others left."""
    named = [layer for layer in layers if isinstance(layer, dict) and isinstance(layer.get("name"), str)]
    left: dict[str, list[Any]] = {}
    made: dict[str, int] = {}
    first: dict[str, int] = {}
    for layer in named:
        calls = layer.get("inbound_nodes")
        left.setdefault(layer["name"], []).extend(calls if isinstance(calls, list) else [])
        first[layer["name"]], made[layer["name"]] = _calls_of_its_own(layer)
    inputs = {layer["name"] for layer in named if layer.get("class_name") == _INPUT}

    def is_made(name: str, number: Any) -> bool:
        known = name not in made or name in inputs  # Keras rejects unknown names
        return known or (isinstance(number, int) and first[name] <= number < made[name])

    has_changed = True
    while has_changed:
        has_changed = False
        for name, calls in left.items():
            while calls and all(is_made(*taken) for taken in _taken(calls[0])):
                calls.pop(0)
                made[name] += 1
                has_changed = True
    return tuple(name for name, calls in left.items() if calls)


def _calls_of_its_own(layer: dict[str, Any]) -> tuple[int, int]:
    """Returns the number of the first call that a file may list, and the most that were made before.

    A model was called once on its own inputs, if it has some.
    """
    inner = layer.get("config")
    layers = inner.get("layers") if isinstance(inner, dict) else None
    if not isinstance(layers, list):
        return 0, 0
    start = layers[0] if layers and isinstance(layers[0], dict) else {}
    return int(start.get("class_name") == _INPUT), 1


def _taken(value: Any) -> Iterator[tuple[str, Any]]:
    """Yields the results that a call takes: the layer, and the number of its call."""
    if isinstance(value, list):
        is_result = len(value) in (3, 4) and isinstance(value[0], str)
        if is_result and value[0] != _CONSTANT:
            yield value[0], value[1]
        for part in value[3:] if is_result else value:
            yield from _taken(part)
    elif isinstance(value, dict) and "args" not in value:  # that is the form of Keras 3
        for part in value.values():
            yield from _taken(part)
