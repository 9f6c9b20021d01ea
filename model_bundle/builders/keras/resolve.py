"""Resolves how a loaded model is used: its function, its inputs and outputs, and how it may be batched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from model_bundle.builders.batch_probe import BatchBehaviour, probe_batches, unfrozen_reason
from model_bundle.builders.keras.input_roles import Role, goes_with_tokens, resolve_roles
from model_bundle.builders.keras.load.config import head_settings
from model_bundle.builders.keras.model import (
    Counting,
    ExampleTexts,
    KerasModel,
    check_batch_axes,
    find_counting,
)
from model_bundle.builders.keras.options import KerasChoices
from model_bundle.builders.keras.packed_bundle import PackedBundle, find_packed_bundle
from model_bundle.builders.keras.resolve_inputs import columns_of, make_text_side, max_tokens_of, tokenizer_of
from model_bundle.builders.keras.resolve_outputs import KerasOutputs, resolve_outputs
from model_bundle.builders.keras.rewrite.example_inputs import with_features
from model_bundle.builders.keras.rewrite.unused_inputs import without_unused
from model_bundle.builders.keras.sidecar_files import Sidecar, find_sidecar, read_subwords
from model_bundle.builders.tfhub.function import CALL, ModuleFunction, saved_functions
from model_bundle.builders.tfhub.load import LoadedModule
from model_bundle.builders.tokenizer import SubwordTokenizer
from model_bundle.bundle.specs import TokenizerSpec
from model_bundle.errors import SourceError
from model_bundle.runtime.golden import GOLDEN_TEXTS
from model_bundle.runtime.tensorflow_setup import import_tensorflow

_USUAL = "serving_default"
# TensorFlow's error messages quote whole graphs.
_MAX_CHARS = 500
_ALL = np.arange(len(GOLDEN_TEXTS))


@dataclass(frozen=True)
class ResolvedKeras:
    """A model and its measured properties; ``notes`` are for its user, one per line.

    ``zero_inputs``: inputs that get zeros, because no output that is used depends on them.
    """

    model: KerasModel
    sidecar: Sidecar | None
    packed: PackedBundle | None
    subwords: SubwordTokenizer | None
    max_tokens: int | None
    outputs: KerasOutputs
    behaviour: BatchBehaviour
    freeze_reason: str | None
    notes: tuple[str, ...]
    zero_inputs: tuple[str, ...]


def resolve_keras(loaded: LoadedModule, source: Path, choices: KerasChoices, scratch: Path) -> ResolvedKeras:
    """Chooses a function and determines its properties by running it on a few texts.

    Args:
        loaded: the model.
        source: the saved model; its tokenizer and configuration may be next to it.
        choices: settings that are not in the model.
        scratch: an empty folder.

    Raises:
        SourceError: its use is ambiguous or unknown, it fails, or a setting does not fit it.
    """
    where = loaded.module.location
    function = _choose(saved_functions(loaded), choices.signature, where)
    check_batch_axes(function, where)
    parsed: tuple[str, ...] = ()
    if not choices.inputs.keys() & function.inputs.keys():
        function, parsed = with_features(function, where)
    choices = choices.renamed(function.aliases)
    packed = find_packed_bundle(loaded.loaded, scratch / "inside", where)
    if packed is not None:
        choices = packed.complete(choices, function.inputs)
    numeric: dict[str, Role] = dict.fromkeys(choices.extra_inputs, "numeric")
    stated = {*choices.inputs, *choices.extra_inputs}
    with_tokens = {name for name, spec in function.inputs.items() if goes_with_tokens(name, spec)}
    function, zero_inputs = without_unused(function, choices.default_output, stated | with_tokens)
    roles = resolve_roles(function.inputs, numeric | dict(choices.inputs), where)
    columns = columns_of(function, roles, choices, where)
    sidecar, subwords = _tokenizer(roles, packed, source, choices, where)
    spec = tokenizer_of(roles, subwords, sidecar, choices, where)
    model = KerasModel(function, roles, spec, columns)
    max_tokens = max_tokens_of(model, subwords, sidecar, choices, where)
    texts = ExampleTexts(make_text_side(spec, subwords, max_tokens, scratch), model.inputs())
    model, found = _inspect(model, texts, where)
    outputs = resolve_outputs(found, _num_tokens(spec, texts), sidecar, choices, where, head_settings(source))
    behaviour = probe_batches(model.run, texts, outputs.specs)
    zeros = [f"input {name}: zeros, because no output used depends on it" for name in zero_inputs]
    notes = [
        f"uses {function.describe()}",
        *parsed,
        *zeros,
        *_input_notes(model, texts, sidecar, subwords),
        *outputs.notes,
    ]
    fault = unfrozen_reason(model.signature, model.fed(texts.prepare(GOLDEN_TEXTS).batch(_ALL)))
    if subwords is not None and max_tokens is None:
        notes.append("no token limit is known: set --max_tokens if the model has one")
    notes += [
        *behaviour.notes(one_each=spec.kind == "text"),
        *([f"weights stay variables: {fault}"] if fault else []),
    ]
    return ResolvedKeras(
        model, sidecar, packed, subwords, max_tokens, outputs, behaviour, fault, tuple(notes), zero_inputs
    )


def _choose(functions: list[ModuleFunction], wanted: str | None, where: str) -> ModuleFunction:
    """Returns the named signature, else the usual one, else the only one."""
    named = [function for function in functions if function.name != CALL]
    usable = [one for one in functions if one.name == wanted] if wanted else named or functions
    chosen = [one for one in usable if one.name == (wanted or _USUAL)] or usable
    if len(chosen) == 1 or (chosen and all(one.name == CALL for one in chosen)):
        return chosen[0]
    listed = "\n".join(f"  {one.describe()}" for one in functions) or "  none"
    asked = f"--signature {wanted}: {where} has no such signature" if wanted else f"{where} needs --signature"
    raise SourceError(f"{asked}. It has:\n{listed}")


def _tokenizer(
    roles: Mapping[str, Role], packed: PackedBundle | None, source: Path, choices: KerasChoices, where: str
) -> tuple[Sidecar | None, SubwordTokenizer | None]:
    """Finds the tokenizer of a model that takes token ids: as stated, packed inside it, or next to it."""
    if "ids" not in roles.values():
        return None, None
    if packed is not None and choices.tokenizer is None and packed.manifest.tokenizer.kind == "subwords":
        return packed.sidecar, packed.subwords
    sidecar = find_sidecar(source, choices.tokenizer)
    return sidecar, read_subwords(sidecar, choices.lowercase, where)


def _inspect(model: KerasModel, texts: ExampleTexts, where: str) -> tuple[KerasModel, dict[str, np.ndarray]]:
    """Runs the golden texts; determines how a graph that takes texts counts its tokens."""
    tf = import_tensorflow()
    batch = texts.prepare(GOLDEN_TEXTS).batch(_ALL)
    try:
        found = model.run(batch)
        counting: Counting | None = None
        if set(model.roles.values()) == {"text"} and any(array.ndim == 3 for array in found.values()):
            counting = find_counting(model.run)
        if counting is not None:
            model = replace(model, counting=counting)
            found = model.run(batch)
    except (tf.errors.OpError, ValueError, TypeError) as error:
        raise SourceError(
            f"{model.function.describe()} of {where} fails on {len(GOLDEN_TEXTS)} plain texts: "
            f"{str(error).strip()[:_MAX_CHARS]}"
        ) from error
    return model, found


def _num_tokens(spec: TokenizerSpec, texts: ExampleTexts) -> int | None:
    """Returns the number of tokens of the longest golden text; None if only the graph knows it."""
    if spec.kind in ("text", "none"):
        return None
    return int(texts.prepare(GOLDEN_TEXTS).lengths.max())


def _input_notes(
    model: KerasModel, texts: ExampleTexts, sidecar: Sidecar | None, subwords: SubwordTokenizer | None
) -> list[str]:
    notes = [f"input {name}: {role}" for name, role in sorted(model.roles.items())]
    if subwords is not None and sidecar is not None:
        notes.append(f"tokenizer: {sidecar.how}" + (f"; {subwords.note}" if subwords.note else ""))
    if model.tokenizer.lowercase is None and model.tokenizer.kind in ("text", "words"):
        notes.append(
            "casing: text is not changed; set --lowercase yes if the model was trained on lower case"
        )
    length = max((spec.length or 0 for spec in model.inputs().values()), default=0)
    if length:
        real = texts.prepare(GOLDEN_TEXTS).lengths.mean() / length
        notes.append(
            f"every text is padded to {length} tokens: of the golden texts {real:.0%} is real, "
            "the rest padding"
        )
    return notes
