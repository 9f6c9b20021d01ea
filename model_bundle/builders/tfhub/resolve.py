"""Resolves how a module is used: its function, its inputs and outputs, and how it may be batched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from model_bundle.builders.batch_probe import BatchBehaviour, probe_batches, unfrozen_reason
from model_bundle.builders.tfhub.bert_preprocessing import join, preprocessing, takes_any_length
from model_bundle.builders.tfhub.function import ModuleFunction
from model_bundle.builders.tfhub.load import LoadedModule
from model_bundle.builders.tfhub.model import HubModel
from model_bundle.builders.tfhub.outputs import default_output, describe_outputs
from model_bundle.builders.tfhub.signature import Role, choose_function
from model_bundle.bundle.specs import OutputSpec, Pooling, TokenizerSpec
from model_bundle.errors import SourceError
from model_bundle.runtime.golden import GOLDEN_TEXTS
from model_bundle.runtime.tensorflow_setup import import_tensorflow

# TensorFlow's error messages quote whole graphs.
_MAX_CHARS = 500


@dataclass(frozen=True)
class HubChoices:
    """Settings that are not in a module.

    ``signature`` is one of its signatures, or ``call``; None chooses. ``preprocess`` is the handle of a BERT
    encoder's preprocessing module. ``word_split`` and ``max_tokens`` are for modules that take words,
    ``pooling`` for those that return a vector per token. ``name``, ``licence``, ``origin`` go into the
    manifest. ``allow_ops`` are operations that it may use although they reach beyond the graph.
    """

    signature: str | None = None
    preprocess: str | None = None
    word_split: Literal["spaces", "unicode"] | None = None
    max_tokens: int | None = None
    pooling: Pooling | None = None
    normalize: bool = False
    name: str | None = None
    licence: str | None = None
    origin: str | None = None
    allow_ops: tuple[str, ...] = ()


@dataclass(frozen=True)
class ResolvedModule:
    """A model and its measured properties; ``notes`` are for its user, one per line.

    ``reference`` computes the module's original outputs: the model itself, unless it was changed.
    ``freeze_reason`` is why weights must stay variables; None if they may become constants.
    """

    model: HubModel
    reference: HubModel
    outputs: dict[str, OutputSpec]
    default_output: str
    pooling: Pooling | None
    behaviour: BatchBehaviour
    freeze_reason: str | None
    notes: tuple[str, ...]


def resolve_module(loaded: LoadedModule, helper: LoadedModule | None, choices: HubChoices) -> ResolvedModule:
    """Chooses a function and determines its properties by running it on a few texts.

    Args:
        loaded: the module.
        helper: its preprocessing module.
        choices: settings that are not in the module.

    Raises:
        SourceError: no function can be used, it fails, or a setting does not fit it.
    """
    function, roles = choose_function(loaded, choices.signature)
    note = f"uses {function.describe()}"
    if "ids" not in roles.values():
        model = _direct(function, roles, choices)
        return _inspect(model, model, loaded, choices, (note,))
    if helper is None:
        raise SourceError(
            f"{loaded.module.location} takes token ids: {function.describe()}. Name its preprocessing "
            "module, which its page names: --preprocess HANDLE|DIR"
        )
    return _resolve_pair(function, roles, loaded, helper, choices, note)


def _direct(function: ModuleFunction, roles: Mapping[str, Role], choices: HubChoices) -> HubModel:
    if choices.preprocess is not None:
        raise SourceError(f"--preprocess: {function.describe()} takes no token ids. Omit the option.")
    if "words" in roles.values():
        spec = TokenizerSpec(kind="words", word_split=choices.word_split or "spaces")
        return HubModel(function, roles, spec, choices.max_tokens)
    _reject_word_options(function, choices)
    return HubModel(function, roles, TokenizerSpec(kind="text"), None)


def _resolve_pair(
    encoder: ModuleFunction,
    roles: Mapping[str, Role],
    loaded: LoadedModule,
    helper: LoadedModule,
    choices: HubChoices,
    note: str,
) -> ResolvedModule:
    """Joins encoder and preprocessing; removes unneeded padding if that does not change the vectors."""
    _reject_word_options(encoder, choices)
    maker, made, max_ids = preprocessing(helper)
    notes = (note, f"truncates texts to {max_ids} tokens, like {helper.module.name}; rows do not record this")

    def joined(trim: bool) -> HubModel:
        function = join(encoder, roles, maker, made, trim=trim)
        return HubModel(function, {"text": "text"}, TokenizerSpec(kind="text"), None)

    whole = joined(trim=False)
    if takes_any_length(encoder):
        resolved = _inspect(joined(trim=True), whole, loaded, choices, notes)
        if not resolved.behaviour.batch_dependent:
            return resolved
    return _inspect(whole, whole, loaded, choices, notes)


def _inspect(
    model: HubModel, reference: HubModel, loaded: LoadedModule, choices: HubChoices, notes: tuple[str, ...]
) -> ResolvedModule:
    """Runs a model on the golden texts and on those of the probe, and describes the results."""
    behaviour, outputs, left_out = _run(model, loaded)
    default = default_output(outputs)
    pooling = choices.pooling
    if outputs[default].kind != "token" and pooling is not None:
        raise SourceError(f"--pooling {pooling}: {default} is already one vector per text. Omit the option.")
    if outputs[default].kind == "token" and pooling is None:
        pooling = Pooling.MEAN
    fault = _unfrozen_reason(model)
    frozen = (f"weights stay variables: {fault}",) if fault else ()
    return ResolvedModule(
        model=model,
        reference=reference,
        outputs=outputs,
        default_output=default,
        pooling=pooling,
        behaviour=behaviour,
        freeze_reason=fault,
        notes=(*notes, *left_out, *behaviour.notes(), *frozen),
    )


def _run(model: HubModel, loaded: LoadedModule) -> tuple[BatchBehaviour, dict[str, OutputSpec], list[str]]:
    text_side = model.text_side()
    prepared = text_side.prepare(GOLDEN_TEXTS)
    num_tokens = int(prepared.lengths.max()) if model.tokenizer.kind == "words" else None
    try:
        found = model.run(prepared.batch(np.arange(len(GOLDEN_TEXTS))))
    except (import_tensorflow().errors.OpError, ValueError, TypeError) as error:
        raise SourceError(
            f"{model.function.describe()} of {loaded.module.location} fails on {len(GOLDEN_TEXTS)} plain "
            f"texts: {str(error).strip()[:_MAX_CHARS]}"
        ) from error
    outputs, left_out = describe_outputs(found, len(GOLDEN_TEXTS), num_tokens, loaded.module.location)
    return probe_batches(model.run, text_side, outputs), outputs, left_out


def _unfrozen_reason(model: HubModel) -> str | None:
    batch = model.text_side().prepare(GOLDEN_TEXTS).batch(np.arange(len(GOLDEN_TEXTS)))
    return unfrozen_reason(model.signature(), {name: batch[role] for name, role in model.roles.items()})


def _reject_word_options(function: ModuleFunction, choices: HubChoices) -> None:
    for flag, value in (("--word_split", choices.word_split), ("--max_tokens", choices.max_tokens)):
        if value is not None:
            raise SourceError(f"{flag} {value}: {function.describe()} splits words itself. Omit the option.")
