"""Builds model bundles from the ELMo files that bilm and AllenNLP publish."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from model_bundle.builders.assemble import LICENCE_NAME, assemble, check_output, save_module
from model_bundle.builders.elmo.bilm_files import read_options, read_weights
from model_bundle.builders.graphs.elmo_options import BilmOptions, check_weights
from model_bundle.builders.licence import Licence, read_licence
from model_bundle.builders.source_folder import SourceFolder
from model_bundle.bundle.bundle import ModelBundle
from model_bundle.bundle.digest import sha256_of
from model_bundle.bundle.manifest import SAVED_MODEL_DIR, BundleManifest
from model_bundle.bundle.specs import ElmoSpec, InputSpec, OutputSpec, Pooling, SourceSpec, TokenizerSpec
from model_bundle.errors import SourceError

_FREEZE_REASON = "the weights are used inside loops, where constants are no faster"


@dataclass(frozen=True)
class ElmoChoices:
    """Settings that are not in the files.

    ``layer_weights`` are used as they are, word vectors first; ``layer_logits`` pass a softmax, like those
    that bilm and AllenNLP train; without either, the mix is the plain mean. ``boundaries``: whether the begin
    and end of the sentence surround the words inside the model. ``word_split``: how the job finds words.
    ``name``, ``licence`` and ``origin`` go into the manifest.
    """

    layer_weights: tuple[float, ...] | None = None
    layer_logits: tuple[float, ...] | None = None
    gamma: float = 1.0
    boundaries: bool = True
    word_split: Literal["spaces", "unicode"] = "spaces"
    name: str | None = None
    licence: str | None = None
    origin: str | None = None


def build_elmo_bundle(options: Path, weights: Path, choices: ElmoChoices, output: Path) -> ModelBundle:
    """Reads, checks and exports a biLM, and assembles its bundle.

    Args:
        options: ``options.json``.
        weights: ``weights.hdf5``.
        choices: settings that are not in the files.
        output: the folder to create.

    Raises:
        SourceError: a file cannot be read, or a setting does not fit the model.
        WeightsMismatchError: the files do not belong together.
    """
    check_output(output)
    shape = read_options(options)
    spec = ElmoSpec(
        boundaries=choices.boundaries,
        layer_weights=final_layer_weights(choices, shape.num_layers + 1),
        gamma=_finite("--gamma", (choices.gamma,))[0],
    )
    arrays = read_weights(weights)
    check_weights(shape, arrays, str(weights))
    licence = read_licence(SourceFolder(weights.parent), choices.origin or weights.name, choices.licence)

    def write_files(staging: Path) -> None:
        (staging / LICENCE_NAME).write_text(licence.text, encoding="utf-8")
        _export(shape, arrays, spec, str(weights), staging / SAVED_MODEL_DIR)

    source = SourceSpec(
        kind="bilm",
        location=choices.origin or weights.name,
        files={path.name: sha256_of(path) for path in (options, weights)},
    )
    return assemble(output, _manifest(shape, spec, choices, source, licence), write_files)


def final_layer_weights(choices: ElmoChoices, num_layers: int) -> tuple[float, ...]:
    """Returns the factors of the mix, word vectors first.

    Raises:
        SourceError: both kinds are given, there is not one per layer, or one is not finite.
    """
    if choices.layer_weights is not None and choices.layer_logits is not None:
        raise SourceError("--layer_weights and --layer_logits exclude each other: use one of them.")
    if choices.layer_weights is not None:
        return _numbers("--layer_weights", choices.layer_weights, num_layers)
    logits = _numbers("--layer_logits", choices.layer_logits or (0.0,) * num_layers, num_layers)
    powers = [math.exp(logit - max(logits)) for logit in logits]
    return tuple(power / sum(powers) for power in powers)


def _numbers(flag: str, values: Sequence[float], count: int) -> tuple[float, ...]:
    if len(values) != count:
        raise SourceError(
            f"{flag} has {len(values)} numbers, expected {count}: one for the word vectors and one for each "
            f"of the {count - 1} LSTM layers."
        )
    return _finite(flag, values)


def _finite(flag: str, values: Sequence[float]) -> tuple[float, ...]:
    if not all(math.isfinite(value) for value in values):
        raise SourceError(f"{flag}: {', '.join(map(str, values))} is not finite; expected finite numbers.")
    return tuple(values)


def _export(
    shape: BilmOptions, weights: dict[str, np.ndarray], spec: ElmoSpec, source: str, directory: Path
) -> None:
    from model_bundle.runtime.tensorflow_setup import import_tensorflow

    import_tensorflow()
    from model_bundle.builders.graphs.elmo import Elmo
    from model_bundle.builders.graphs.elmo_signatures import signatures

    elmo = Elmo(
        shape,
        weights,
        source,
        boundaries=spec.boundaries,
        layer_weights=spec.layer_weights,
        gamma=spec.gamma,
    )
    save_module(elmo, directory, signatures(elmo))


def _manifest(
    shape: BilmOptions, spec: ElmoSpec, choices: ElmoChoices, source: SourceSpec, licence: Licence
) -> BundleManifest:
    outputs = {"word_emb": OutputSpec(kind="token", dim=shape.projection_dim, layer="word_emb")}
    for name in [*(f"lstm_outputs{layer + 1}" for layer in range(shape.num_layers)), "elmo"]:
        outputs[name] = OutputSpec(kind="token", dim=2 * shape.projection_dim, layer=name)
    outputs["default"] = OutputSpec(kind="text", dim=2 * shape.projection_dim)
    outputs["sequence_len"] = OutputSpec(kind="length", dtype="int32")
    return BundleManifest(
        name=choices.name or "elmo",
        task="embed",
        family="elmo",
        signature="tokens",
        bfloat16_signature="tokens_bfloat16",
        inputs={
            "tokens": InputSpec(role="words", dtype="string"),
            "sequence_len": InputSpec(role="lengths", dtype="int32"),
        },
        outputs=outputs,
        default_output="elmo",
        tokenizer=TokenizerSpec(kind="words", word_split=choices.word_split),
        pooling=Pooling.MEAN,
        elmo=spec,
        freeze=False,
        freeze_reason=_FREEZE_REASON,
        source=source,
        licence=licence.identifier,
    )
