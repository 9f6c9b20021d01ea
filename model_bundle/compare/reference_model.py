"""Runs a model on one text at a time, with any preparation, and returns all outputs: slow, but reliable."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any, cast

import numpy as np

from model_bundle.base.untrusted.json_text import parse_json
from model_bundle.bundle.bundle import ModelBundle
from model_bundle.bundle.manifest import BOUNDARY_SIGNATURES, TOKENIZER_FILE
from model_bundle.bundle.specs import Rows
from model_bundle.compare.settings import Preparation, RawText
from model_bundle.errors import ModelRunError, SettingsError
from model_bundle.inference.numeric_inputs import NumericInputs
from model_bundle.runtime.inputs import signature_inputs
from model_bundle.runtime.saved_model import load_saved_model
from model_bundle.runtime.tensorflow_setup import import_tensorflow
from model_bundle.text import TextInput, text_input
from model_bundle.text.prepared import PreparedWords


class RawModel:
    """A bundle's SavedModel, unfrozen and in float32.

    Args:
        bundle: a checked bundle.
        rows: whether the words of texts are needed.
        max_tokens: the limit, unless a preparation sets another.
    """

    def __init__(self, bundle: ModelBundle, rows: Rows, max_tokens: int | None) -> None:
        self._tf = import_tensorflow()
        self._bundle = bundle
        self._rows = rows
        self._max_tokens = max_tokens
        self._loaded = load_saved_model(bundle.path, bundle.manifest, bundle.allowed_ops)
        self._numeric = NumericInputs(bundle.manifest.inputs)
        self._inputs: dict[Preparation, TextInput] = {}

    def run(self, text: str, preparation: Preparation, numbers: np.ndarray) -> RawText:
        """Computes every output for one text.

        Args:
            text: any string.
            preparation: how it becomes the model's input.
            numbers: float64[columns], where the model takes numbers.

        Raises:
            SettingsError: the bundle has no such input or graph.
            ModelRunError: the model failed, for example on more tokens than it has positions.
        """
        manifest = self._bundle.manifest
        prepared = self._input(preparation).prepare([text.lower() if preparation.lowercase else text])
        batch = np.zeros(manifest.min_batch, dtype=np.int64)
        arrays = prepared.batch(batch) | self._numeric.arrays(numbers[np.newaxis][batch], len(batch))[0]
        given = signature_inputs(arrays, manifest.inputs, manifest.tokenizer.pad_id)
        tensors = {n: self._tf.constant(a, dtype=manifest.inputs[n].dtype) for n, a in given.items()}
        try:
            outputs = {name: value.numpy() for name, value in self._signature(preparation)(**tensors).items()}
        except (self._tf.errors.OpError, ValueError, TypeError) as error:
            raise ModelRunError(f"The model failed on a text: {str(error)[:300]}") from error
        length = int(outputs["sequence_len"][0]) if "sequence_len" in outputs else int(prepared.lengths[0])
        pieces = cast(PreparedWords, prepared).pieces(0) if self._rows is Rows.WORD else None
        kept = {
            name: outputs[name][0, :length] if outputs[name].ndim == 3 else outputs[name][0]
            for name, spec in manifest.outputs.items()
            if spec.kind != "length"
        }
        return RawText(kept, pieces, int(prepared.num_tokens[0]))

    def _signature(self, preparation: Preparation) -> Any:
        name = self._bundle.manifest.signature
        if preparation.boundaries is not None:
            name = BOUNDARY_SIGNATURES[preparation.boundaries]
        if name not in self._loaded.signatures:
            raise SettingsError(f"The bundle was built without the signature {name}; rebuild it.")
        return self._loaded.signatures[name]

    def _input(self, preparation: Preparation) -> TextInput:
        if preparation not in self._inputs:
            self._inputs[preparation] = self._make_input(preparation)
        return self._inputs[preparation]

    def _make_input(self, preparation: Preparation) -> TextInput:
        manifest = self._bundle.manifest
        limit = self._max_tokens if preparation.max_tokens is None else preparation.max_tokens or None
        prompt = preparation.prompt
        if prompt is None:
            prompt = manifest.prompts.get(manifest.default_prompt or "", "")
        tokenizer = manifest.tokenizer
        if preparation.word_split is not None:
            tokenizer = tokenizer.model_copy(update={"word_split": preparation.word_split})
        if preparation.lowercase is not None:
            tokenizer = tokenizer.model_copy(update={"lowercase": preparation.lowercase})
        changed = manifest.model_copy(update={"tokenizer": tokenizer})
        if preparation.lowercase is False and tokenizer.kind == "subwords":
            with tempfile.TemporaryDirectory() as folder:
                _write_cased(self._bundle.path, Path(folder))
                return text_input(Path(folder), changed, limit, prompt, self._rows)
        return text_input(self._bundle.path, changed, limit, prompt, self._rows)


def _write_cased(bundle_dir: Path, folder: Path) -> None:
    """Copies a tokenizer without its lower-casing."""
    content = parse_json((bundle_dir / TOKENIZER_FILE).read_text(encoding="utf-8"))
    content["normalizer"] = _cased(content["normalizer"])
    target = folder / TOKENIZER_FILE
    target.parent.mkdir()
    target.write_text(json.dumps(content), encoding="utf-8")


def _cased(step: dict[str, Any] | None) -> dict[str, Any] | None:
    if step is None or step["type"] == "Lowercase":
        return None
    if step["type"] == "Sequence":
        steps = [_cased(inner) for inner in step["normalizers"]]
        return step | {"normalizers": [inner for inner in steps if inner is not None]}
    return step | {"lowercase": False} if "lowercase" in step else step
