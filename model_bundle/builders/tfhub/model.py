"""A module's function as a model: prepares its inputs, converts its outputs, and traces its signature."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from model_bundle.builders.tfhub.bert_preprocessing import LENGTHS
from model_bundle.builders.tfhub.function import ModuleFunction
from model_bundle.builders.tfhub.signature import Role
from model_bundle.bundle.specs import InputSpec, TokenizerSpec
from model_bundle.runtime.tensorflow_setup import import_tensorflow
from model_bundle.text.prepared import PlainTextInput, TextInput
from model_bundle.text.words import WordInput

_RANKS = {"text": 1, "words": 2, "lengths": 1}


@dataclass(frozen=True)
class HubModel:
    """A function that takes texts, or words and their number; ``roles`` is by input name."""

    function: ModuleFunction
    roles: Mapping[str, Role]
    tokenizer: TokenizerSpec
    max_tokens: int | None

    def text_side(self) -> TextInput:
        """Returns the converter of texts to inputs, as readers of the bundle will build it."""
        if self.tokenizer.kind == "words":
            return WordInput(self.tokenizer, self.max_tokens)
        return PlainTextInput()

    def inputs(self) -> dict[str, InputSpec]:
        """Returns the inputs for the manifest, with the module's dtypes."""
        specs = self.function.inputs
        return {n: InputSpec(role=role, dtype=specs[n].dtype.name) for n, role in sorted(self.roles.items())}

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Runs the module as loaded: maps arrays by role to arrays by output name."""
        tf = import_tensorflow()
        specs = self.function.inputs
        fed = {n: tf.constant(inputs[role], dtype=specs[n].dtype) for n, role in self.roles.items()}
        return {name: value.numpy() for name, value in self._call(fed).items()}

    def signature(self) -> Any:
        """Returns a concrete function with the module's own input names, for export."""
        tf = import_tensorflow()
        specs = {
            name: tf.TensorSpec([None] * _RANKS[role], self.function.inputs[name].dtype, name=name)
            for name, role in self.roles.items()
        }
        return tf.function(lambda **fed: self._call(fed), autograph=False).get_concrete_function(**specs)

    def _call(self, fed: Mapping[str, Any]) -> dict[str, Any]:
        """Calls the module; converts floating-point outputs to float32, and lengths to int32."""
        tf = import_tensorflow()
        outputs = self.function.call(**fed)
        wanted = {name: tf.float32 for name, value in outputs.items() if value.dtype.is_floating}
        if LENGTHS in outputs and outputs[LENGTHS].dtype.is_integer:
            wanted[LENGTHS] = tf.int32
        return {name: tf.cast(value, wanted.get(name, value.dtype)) for name, value in outputs.items()}
