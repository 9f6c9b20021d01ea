"""A saved function in a bundle's form: texts, words, ids or numbers in, float32 by name out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np

from model_bundle.builders.keras.input_roles import Role
from model_bundle.builders.tfhub.bert_preprocessing import LENGTHS
from model_bundle.builders.tfhub.function import ModuleFunction
from model_bundle.bundle.specs import InputSpec, TokenizerSpec
from model_bundle.errors import SourceError
from model_bundle.runtime.inputs import example_numbers, signature_inputs
from model_bundle.runtime.tensorflow_setup import import_tensorflow
from model_bundle.text.prepared import PreparedTexts, TextInput

_TOKEN_ROLES = ("ids", "mask", "types", "words")
_RANKS = {"text": 1, "lengths": 1}
Counting = Literal["spaces", "single_spaces", "whitespace"]
_COUNTINGS: tuple[Counting, ...] = get_args(Counting)


@dataclass(frozen=True)
class KerasModel:
    """A function and the roles of its inputs.

    ``roles`` and ``columns`` are by input name. ``counting`` is how the graph splits texts into the tokens of
    its states, if known: then their number is added as an output.
    """

    function: ModuleFunction
    roles: Mapping[str, Role]
    tokenizer: TokenizerSpec
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    counting: Counting | None = None

    def inputs(self) -> dict[str, InputSpec]:
        """Returns the inputs for the manifest."""
        return {name: self._input(name, role) for name, role in sorted(self.roles.items())}

    def run(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Runs the function as loaded: maps arrays by role to arrays by output name."""
        tf = import_tensorflow()
        specs = self.inputs()
        tensors = {name: tf.constant(a, dtype=specs[name].dtype) for name, a in self.fed(arrays).items()}
        return {name: value.numpy() for name, value in self.signature(**tensors).items()}

    def fed(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Returns the arrays of a batch by input name."""
        return signature_inputs(arrays, self.inputs(), self.tokenizer.pad_id)

    @cached_property
    def signature(self) -> Any:
        """A concrete function with the model's own input names, for export."""
        tf = import_tensorflow()
        specs = {
            name: tf.TensorSpec(self._shape(spec), spec.dtype, name=name)
            for name, spec in self.inputs().items()
        }
        return tf.function(lambda **fed: self._call(fed), autograph=False).get_concrete_function(**specs)

    def _input(self, name: str, role: Role) -> InputSpec:
        found = self.function.inputs[name]
        if found.dtype.is_integer:
            dtype: Any = "int64" if found.dtype.name == "int64" else "int32"
        else:
            dtype = "string" if found.dtype.name == "string" else "float32"
        length = found.shape[1] if role in _TOKEN_ROLES and found.shape.rank == 2 else None
        return InputSpec(role=role, dtype=dtype, length=length, columns=self.columns.get(name, ()))

    def _shape(self, spec: InputSpec) -> list[int | None]:
        if spec.role == "numeric":
            return [None, len(spec.columns)]
        return [None] * _RANKS[spec.role] if spec.role in _RANKS else [None, spec.length]

    def _call(self, fed: Mapping[str, Any]) -> dict[str, Any]:
        tf = import_tensorflow()
        shaped = {name: self._to_function_input(tf, name, tensor) for name, tensor in fed.items()}
        outputs = {name: _to_output(tf, value) for name, value in self.function.call(**shaped).items()}
        if self.counting is not None:
            texts = next(fed[name] for name, role in self.roles.items() if role == "text")
            outputs[LENGTHS] = count_tokens(tf, texts, self.counting)
        return outputs

    def _to_function_input(self, tf: Any, name: str, tensor: Any) -> Any:
        """Adds or removes the axis of size 1 that Keras models often have, and casts."""
        spec, role = self.function.inputs[name], self.roles[name]
        rank = spec.shape.rank
        if role in _RANKS and rank == 2:
            tensor = tensor[:, tf.newaxis]
        elif role == "numeric" and rank == 1:
            tensor = tensor[:, 0]
        return tensor if tensor.dtype == spec.dtype else tf.cast(tensor, spec.dtype)


@dataclass(frozen=True)
class ExampleTexts:
    """Converts texts to inputs as readers of the bundle will, with example numbers for numeric inputs."""

    text_side: TextInput
    specs: Mapping[str, InputSpec]

    def prepare(self, texts: Sequence[str]) -> PreparedTexts:
        """See ``TextInput.prepare``."""
        return _WithNumbers(self.text_side.prepare(texts), self.specs)


@dataclass(frozen=True)
class _WithNumbers:
    prepared: PreparedTexts
    specs: Mapping[str, InputSpec]

    @property
    def lengths(self) -> np.ndarray:
        return self.prepared.lengths

    @property
    def num_tokens(self) -> np.ndarray:
        return self.prepared.num_tokens

    def batch(self, texts: np.ndarray) -> dict[str, np.ndarray]:
        return self.prepared.batch(texts) | example_numbers(self.specs, texts)


def count_tokens(tf: Any, texts: Any, counting: Counting) -> Any:
    """Returns the number of words in each of string[texts], int32[texts].

    Words are separated by spaces or by any white space; with ``single_spaces``, two spaces in a row enclose
    an empty word.
    """
    if counting == "whitespace":
        return tf.cast(tf.strings.split(texts).row_lengths(), tf.int32)
    words = tf.strings.split(texts, " ")
    if counting == "single_spaces":
        return tf.cast(words.row_lengths(), tf.int32)
    real = tf.ragged.map_flat_values(lambda flat: tf.cast(tf.strings.length(flat) > 0, tf.int32), words)
    return tf.reduce_sum(real, axis=1)


# Words separated by one space, two, or a tab; the graph's own count shows which of them separate words.
_COUNTED_TEXTS = ("one", "one two three", "one  two", "one\ttwo", " one two ")


def find_counting(run: Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]) -> Counting | None:
    """Determines how a graph splits texts, by the number of states it returns for each; None if unknown.

    Args:
        run: maps arrays by role to arrays by output name.
    """
    tf = import_tensorflow()
    sizes = []
    for text in _COUNTED_TEXTS:
        # Twice, because some models fail on one text.
        outputs = run({"text": np.array([text.encode("utf-8")] * 2, dtype=object)})
        sizes.append({array.shape[1] for array in outputs.values() if array.ndim == 3})
    for counting in _COUNTINGS:
        counts = count_tokens(tf, tf.constant(_COUNTED_TEXTS), counting).numpy()
        if all(found == {count} for found, count in zip(sizes, counts.tolist(), strict=True)):
            return counting
    return None


def check_batch_axes(function: ModuleFunction, where: str) -> None:
    """Rejects a function with a fixed number of texts.

    Raises:
        SourceError: names the input.
    """
    for name, spec in sorted(function.inputs.items()):
        if spec.shape.rank and spec.shape[0] is not None:
            raise SourceError(
                f"{where} takes {name} for exactly {spec.shape[0]} texts at a time. Export it again with "
                "None as the first axis."
            )


def _to_output(tf: Any, value: Any) -> Any:
    """Casts floats to float32, and restores the last axis if a squeeze removed it from one value per text."""
    if not value.dtype.is_floating:
        return value
    value = tf.cast(value, tf.float32)
    if value.shape.rank is not None and value.shape.rank > 1:
        return value
    lacking = tf.ones([tf.maximum(2 - tf.rank(value), 0)], tf.int32)
    return tf.reshape(value, tf.concat([tf.shape(value), lacking], axis=0))
