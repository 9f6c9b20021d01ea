"""What a loaded module can be called with, in one form: named tensors in, named tensors out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from model_bundle.builders.tfhub.load import LoadedModule
from model_bundle.runtime.tensorflow_setup import import_tensorflow

# What a module's own ``__call__`` is called among its signatures.
CALL = "call"
_ANONYMOUS = "default"


@dataclass(frozen=True)
class ModuleFunction:
    """A signature, or a module's ``__call__`` with one set of inputs.

    ``inputs`` are TensorSpecs; ``call`` takes tensors by these names as keywords, and gives tensors by name.
    ``is_call`` tells a ``__call__`` from a signature, ``is_named`` whether it names its outputs.
    """

    name: str
    inputs: Mapping[str, Any]
    call: Callable[..., dict[str, Any]]
    is_call: bool = False
    is_named: bool = True

    def describe(self) -> str:
        """Tells its name and inputs on a line."""
        inputs = ", ".join(
            f"{name}: {spec.dtype.name}{_shape(spec)}" for name, spec in sorted(self.inputs.items())
        )
        return f"{self.name}({inputs})"


def module_functions(loaded: LoadedModule) -> list[ModuleFunction]:
    """Lists what a module can be called with: signatures by name, then its ``__call__``."""
    signatures = [_from_signature(name, loaded.signatures[name]) for name in sorted(loaded.signatures)]
    return [*signatures, *_from_callable(loaded.loaded)]


def _from_signature(name: str, signature: Any) -> ModuleFunction:
    _, inputs = signature.structured_input_signature
    return ModuleFunction(name, inputs, lambda **tensors: dict(signature(**tensors)))


def _from_callable(loaded: Any) -> Iterator[ModuleFunction]:
    """Returns every way to call a module; those for training come last."""
    tf = import_tensorflow()
    function = loaded.__call__ if callable(loaded) else None
    traced = list(getattr(function, "concrete_functions", None) or ())
    leaves = [tf.nest.flatten(one.structured_input_signature) for one in traced]
    order = sorted(range(len(traced)), key=lambda index: any(leaf is True for leaf in leaves[index]))
    for index in order:
        made = _from_trace(tf, function, traced[index])
        if made is not None:
            yield made


def _from_trace(tf: Any, function: Any, traced: Any) -> ModuleFunction | None:
    """Binds what a trace was made with, and leaves its tensors open; None where they have no names."""
    structure = traced.structured_input_signature
    leaves = tf.nest.flatten(structure)
    specs = [leaf for leaf in leaves if isinstance(leaf, tf.TypeSpec)]
    names = _input_names(structure, specs)
    if not specs or len(set(names)) < len(specs) or not all(isinstance(s, tf.TensorSpec) for s in specs):
        return None

    def call(**tensors: Any) -> dict[str, Any]:
        waiting = iter(names)
        filled = [tensors[next(waiting)] if isinstance(leaf, tf.TensorSpec) else leaf for leaf in leaves]
        positional, named = tf.nest.pack_sequence_as(structure, filled)
        return dict(_named(tf, function(*positional, **named), ""))

    is_named = isinstance(traced.structured_outputs, Mapping)
    return ModuleFunction(CALL, dict(zip(names, specs, strict=True)), call, True, is_named)


def _input_names(structure: Any, specs: list[Any]) -> list[str]:
    """Names tensors by their key where one argument is a dict of them all, else as the trace does."""
    positional, _ = structure
    if positional and isinstance(positional[0], Mapping) and len(positional[0]) == len(specs):
        return sorted(positional[0])  # the order in which a dict is flattened
    return [spec.name or f"input_{index}" for index, spec in enumerate(specs)]


def _named(tf: Any, outputs: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    """Flattens outputs to named tensors: ``name``, ``name_0`` in a list; what is no tensor is left out."""
    if isinstance(outputs, Mapping):
        for key, value in outputs.items():
            yield from _named(tf, value, f"{prefix}_{key}" if prefix else str(key))
    elif isinstance(outputs, (list, tuple)):
        for index, value in enumerate(outputs):
            yield from _named(tf, value, f"{prefix or 'output'}_{index}")
    elif tf.is_tensor(outputs) and isinstance(outputs, tf.Tensor):
        yield prefix or _ANONYMOUS, outputs


def _shape(spec: Any) -> str:
    if spec.shape.rank is None:
        return "[…]"
    return str(["?" if size is None else size for size in spec.shape]).replace("'", "")
