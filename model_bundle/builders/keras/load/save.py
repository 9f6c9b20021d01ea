"""Saves a Keras model for inference only: a plain SavedModel, named inputs and outputs, training off."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from model_bundle.builders.keras.load.run_both import compare_with_keras
from model_bundle.builders.tfhub.parameter_names import parameter_names
from model_bundle.errors import SourceError


def save_inference(model: Any, directory: Path) -> tuple[str, dict[str, str]]:
    """Saves ``serving_default`` with named inputs and outputs, training off, without optimizer and Keras.

    Returns:
        What its results were compared with, see ``compare_with_keras``; and the input's name in the graph by
        its name in the model, where these differ.
    """
    import tensorflow as tf

    specs, call, renamed = _with_parameter_names(*_signature(model))
    names = [str(name) for name in getattr(model, "output_names", None) or ()]

    @tf.function(autograph=False)  # type: ignore[untyped-decorator]  # TensorFlow is not typed
    def serve(**tensors: Any) -> dict[str, Any]:
        return _named(call(tensors), names)

    concrete = serve.get_concrete_function(**specs)
    module = tf.Module()
    by_handle = {id(variable.handle): variable for variable in concrete.graph.variables}
    # In the order of the graph, so that equal models have equal bytes.
    order = dict.fromkeys(id(capture) for capture in concrete.captured_inputs)
    module.variables_used = [by_handle[key] for key in order if key in by_handle]
    module.resources_used = [
        *_resources(model, concrete),
        *(layer.description for layer in own_layers(model)),
    ]
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    tf.saved_model.save(module, str(directory), signatures={"serving_default": concrete}, options=options)
    compared = compare_with_keras(model, specs, lambda tensors: _named(call(tensors), names), concrete)
    return compared, renamed


def used_variables(model: Any) -> list[Any]:
    """Returns the variables that a call reads, also those of a Lambda's function, which no layer knows."""
    import tensorflow as tf

    specs, call, _ = _with_parameter_names(*_signature(model))
    traced = tf.function(lambda **tensors: call(tensors), autograph=False).get_concrete_function(**specs)
    return list(traced.graph.variables)


def _with_parameter_names(
    specs: dict[str, Any], call: Callable[[Mapping[str, Any]], Any]
) -> tuple[dict[str, Any], Callable[[Mapping[str, Any]], Any], dict[str, str]]:
    """Renames inputs that no function of Python can have, such as keras-bert's ``Input-Token``."""
    import tensorflow as tf

    names = parameter_names(specs)
    renamed = {old: new for old, new in names.items() if old != new}
    if not renamed:
        return specs, call, {}
    valid = {names[old]: tf.TensorSpec(one.shape, one.dtype, name=names[old]) for old, one in specs.items()}
    return valid, lambda tensors: call({old: tensors[new] for old, new in names.items()}), renamed


def _signature(model: Any) -> tuple[dict[str, Any], Callable[[Mapping[str, Any]], Any]]:
    """Returns the inputs of a model by name, and a function that calls it with them."""
    import tensorflow as tf

    given = getattr(model, "inputs", None)
    if given:
        keys = [str(tensor.name).split(":")[0] for tensor in given]
        specs = {
            key: tf.TensorSpec([None, *tensor.shape[1:]], tensor.dtype, name=key)
            for key, tensor in zip(keys, given, strict=True)
        }
        structure = getattr(model, "_nested_inputs", getattr(model, "_inputs_struct", None))
        if isinstance(structure, dict):
            return specs, lambda tensors: model(dict(tensors), training=False)
        return specs, lambda tensors: model(_one_or_all([tensors[key] for key in keys]), training=False)
    if layers := own_layers(model):
        return _specs_of_layer(model, layers[0].graph_inputs)
    spec = _first_spec(model)
    return {spec.name: spec}, lambda tensors: model(tensors[spec.name], training=False)


def own_layers(model: Any) -> list[Any]:
    """Returns the layers of a model that are bundles of this package."""
    if "model_bundle.layers" not in sys.modules:
        return []
    from model_bundle.layers import BundleEmbedding

    return [layer for layer in model._flatten_layers() if isinstance(layer, BundleEmbedding)]


def _specs_of_layer(
    model: Any, known: Mapping[str, Any]
) -> tuple[dict[str, Any], Callable[[Mapping[str, Any]], Any]]:
    """Returns the same for a subclassed model on a bundle: its shapes, with dtypes of the bundle's inputs.

    Args:
        known: TensorSpecs of the bundle's inputs by name.
    """
    import tensorflow as tf

    shape = (model.get_build_config() or {}).get("input_shape")
    if isinstance(shape, dict):
        specs = {
            name: known.get(name) or tf.TensorSpec([None, *one[1:]], tf.float32, name=name)
            for name, one in shape.items()
        }
        return specs, lambda tensors: model(dict(tensors), training=False)
    if isinstance(shape, (list, tuple)) and not any(isinstance(part, (list, tuple, dict)) for part in shape):
        dtype = tf.string if any(spec.dtype == tf.string for spec in known.values()) else tf.int32
        spec = tf.TensorSpec([None] * len(shape), dtype, name="input_1")
        return {spec.name: spec}, lambda tensors: model(tensors[spec.name], training=False)
    raise SourceError(
        f"The model {type(model).__name__} takes {shape}; its inputs need names. Call it with a dict, as "
        "layer.tokenize(texts) gives it."
    )


def _first_spec(model: Any) -> Any:
    """Returns the input of a subclassed model, from its first call or from its build configuration."""
    import tensorflow as tf

    saved = model.save_spec() if hasattr(model, "save_spec") else None
    flat = tf.nest.flatten(saved[0]) if saved else []
    if len(flat) == 1:
        return tf.TensorSpec([None, *flat[0].shape[1:]], flat[0].dtype, name="input_1")
    shape = model.get_build_config() if hasattr(model, "get_build_config") else None
    shape = (shape or {}).get("input_shape")
    if isinstance(shape, (list, tuple)) and shape and not isinstance(shape[0], (list, tuple, dict)):
        return tf.TensorSpec([None, *shape[1:]], tf.float32, name="input_1")
    raise SourceError(
        f"The inputs of {type(model).__name__} are unknown. Write a function that wraps it in a "
        "functional model, with keras.Input: --model_factory MODULE:FUNCTION"
    )


def _one_or_all(tensors: list[Any]) -> Any:
    return tensors[0] if len(tensors) == 1 else tensors


def _named(outputs: Any, names: list[str]) -> dict[str, Any]:
    """Names outputs by their dict keys, by the model's output layers, or by number."""
    import tensorflow as tf

    if isinstance(outputs, Mapping):
        return {str(key): tf.convert_to_tensor(value) for key, value in outputs.items()}
    flat = list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]
    if len(names) != len(flat) or len(set(names)) < len(names):
        names = [f"output_{index + 1}" for index in range(len(flat))]
    return {name: tf.convert_to_tensor(value) for name, value in zip(names, flat, strict=True)}


def _resources(model: Any, concrete: Any) -> list[Any]:
    """Returns the model itself if its graph uses tables or similar, which belong to its parts."""
    import tensorflow as tf

    known = {id(variable.handle) for variable in concrete.graph.variables}
    captured = [item for item in concrete.captured_inputs if item.dtype == tf.resource]
    return [model] if any(id(item) not in known for item in captured) else []
