"""A module's function as a model: texts to its inputs, its outputs as a bundle wants them, and its export."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from model_bundle.builders.tfhub.bert_preprocessing import LENGTHS
from model_bundle.builders.tfhub.function import ModuleFunction
from model_bundle.builders.tfhub.signature import Role
from model_bundle.bundle.manifest import InputSpec, TokenizerSpec
from model_bundle.runtime.tensorflow_setup import import_tensorflow
from model_bundle.text.prepared import PlainTextInput, TextInput
from model_bundle.text.words import WordInput

_RANKS = {"text": 1, "words": 2, "lengths": 1}


@dataclass(frozen=True)
class HubModel:
    """A function that takes texts, or words and their number; ``roles`` by the names of its inputs."""

    function: ModuleFunction
    roles: Mapping[str, Role]
    tokenizer: TokenizerSpec
    max_tokens: int | None

    def text_side(self) -> TextInput:
        """Returns what makes texts into input, as the bundle's readers will."""
        if self.tokenizer.kind == "words":
            return WordInput(self.tokenizer, self.max_tokens)
        return PlainTextInput()

    def inputs(self) -> dict[str, InputSpec]:
        """Returns the inputs for the manifest, in the types that the module asks for."""
        specs = self.function.inputs
        return {n: InputSpec(role=role, dtype=specs[n].dtype.name) for n, role in sorted(self.roles.items())}

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Runs the module as it was loaded: arrays by role in, by output name out."""
        tf = import_tensorflow()
        specs = self.function.inputs
        fed = {n: tf.constant(inputs[role], dtype=specs[n].dtype) for n, role in self.roles.items()}
        return {name: value.numpy() for name, value in self._call(fed).items()}

    def signature(self) -> Any:
        """Returns a concrete function with the module's own names, to export."""
        tf = import_tensorflow()
        specs = {
            name: tf.TensorSpec([None] * _RANKS[role], self.function.inputs[name].dtype, name=name)
            for name, role in self.roles.items()
        }
        return tf.function(lambda **fed: self._call(fed), autograph=False).get_concrete_function(**specs)

    def _call(self, fed: Mapping[str, Any]) -> dict[str, Any]:
        """Calls the module; whatever floats it gives become float32, and its lengths int32."""
        tf = import_tensorflow()
        outputs = self.function.call(**fed)
        wanted = {name: tf.float32 for name, value in outputs.items() if value.dtype.is_floating}
        if LENGTHS in outputs and outputs[LENGTHS].dtype.is_integer:
            wanted[LENGTHS] = tf.int32
        return {name: tf.cast(value, wanted.get(name, value.dtype)) for name, value in outputs.items()}
