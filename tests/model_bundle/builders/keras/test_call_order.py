"""Layers that wait for each other are refused: Keras 2 would go on for ever."""

from __future__ import annotations

from typing import Any

import pytest

from model_bundle.builders.keras.call_order import check_call_order
from model_bundle.errors import SourceError


def layer(name: str, *calls: Any, class_name: str = "Dense", **config: Any) -> dict[str, Any]:
    return {"class_name": class_name, "name": name, "config": config, "inbound_nodes": list(calls)}


START = layer("start", class_name="InputLayer")


def model(*layers: dict[str, Any]) -> dict[str, Any]:
    return {"class_name": "Functional", "config": {"name": "m", "layers": [START, *layers]}}


def taken(name: str, number: Any = 0, **more: Any) -> list[Any]:
    return [name, number, 0, more]


INNER = layer("inner", [taken("start")], class_name="Functional", layers=[START])
GOOD = [
    [layer("a", [taken("start")]), layer("b", [taken("a")])],
    [layer("b", [taken("a")]), layer("a", [taken("start")])],  # in another order
    # Shared: a(b(a(x))).
    [layer("a", [taken("start")], [taken("b")]), layer("b", [taken("a")]), layer("c", [taken("a", 1)])],
    [layer("a", taken("start", y=["b", 0, 0])), layer("b", [taken("start")])],
    [layer("a", ["_CONSTANT_VALUE", -1, "x", {"y": ["start", 0, 0]}])],
    [INNER, layer("a", [taken("inner", 1)])],
    [layer("a", [taken("somewhere")])],  # which Keras says
    [layer("a", {"args": [["a", 0, 0]], "kwargs": {}})],  # Keras 3
]
CIRCLES = [
    ([layer("a", [taken("a")])], "a"),
    ([layer("a", [taken("b")]), layer("b", [taken("c")]), layer("c", [taken("a")])], "a, b, c"),
    ([layer("a", taken("start", y=["a", 0, 0]))], "a"),
    ([layer("a", [taken("start", y={"deep": [1, taken("a")]})])], "a"),
    ([layer("a", ["_CONSTANT_VALUE", -1, "x", {"y": ["a", 0, 0]}])], "a"),
    ([layer("a", [taken("start")]), layer("b", [taken("a", 1)])], "b"),
    ([layer("a", [taken("start")]), layer("b", [taken("a", -1)])], "b"),
    ([layer("a", [taken("start")]), layer("b", [taken("a", None)])], "b"),
    ([INNER, layer("a", [taken("inner", 0)])], "a"),
]


@pytest.mark.parametrize("layers", GOOD)
def test_calls_that_can_be_made_pass(layers: list[dict[str, Any]]) -> None:
    check_call_order(model(*layers), "model.json")


@pytest.mark.parametrize(("layers", "names"), CIRCLES)
@pytest.mark.parametrize("depth", [0, 1])
def test_circles_are_named(layers: list[dict[str, Any]], names: str, depth: int) -> None:
    found = model(*layers)
    with pytest.raises(SourceError, match=rf"model\.json: the layers {names} wait for each other"):
        check_call_order(
            model({**found, "name": "in", "inbound_nodes": []}) if depth else found, "model.json"
        )


def test_what_is_no_list_of_layers_is_left_to_keras() -> None:
    for layers in (None, {}, [1], [{"name": 3}], [{"name": "a", "inbound_nodes": 7}]):
        check_call_order({"class_name": "Functional", "config": {"layers": layers}}, "model.json")
