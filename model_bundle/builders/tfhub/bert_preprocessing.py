"""Joins a BERT encoder of TF-Hub with its preprocessing module to one graph that takes texts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from model_bundle.builders.tfhub.function import ModuleFunction, module_functions
from model_bundle.builders.tfhub.load import LoadedModule
from model_bundle.builders.tfhub.signature import Role, id_role, roles_of
from model_bundle.errors import SourceError
from model_bundle.runtime.tensorflow_setup import import_tensorflow

LENGTHS = "sequence_len"


def preprocessing(loaded: LoadedModule) -> tuple[ModuleFunction, dict[Role, str], int]:
    """Finds the function of a preprocessing module that converts texts to token ids.

    Returns:
        The function, its output name by role, and the number of ids it returns for a short text, because such
        modules pad and truncate to one length.

    Raises:
        SourceError: no function takes texts and returns ids with a mask.
    """
    tf = import_tensorflow()
    functions = [f for f in module_functions(loaded) if set((roles_of(f) or {}).values()) == {"text"}]
    for function in sorted(functions, key=lambda function: not function.is_call):
        outputs = function.call(**dict.fromkeys(function.inputs, tf.constant(["a text"])))
        ids = {n: value for n, value in outputs.items() if value.dtype.is_integer and value.shape.rank == 2}
        roles = {id_role(name): name for name in ids}
        if {"ids", "mask"} <= roles.keys() and len(roles) == len(ids):
            return function, roles, int(ids[roles["ids"]].shape[1])
    listed = "; ".join(function.describe() for function in module_functions(loaded)) or "nothing"
    raise SourceError(
        f"--preprocess {loaded.module.location}: expected a module that takes texts and returns token "
        f"ids with a mask, like bert_en_uncased_preprocess. It has: {listed}."
    )


def join(
    encoder: ModuleFunction,
    encoder_roles: Mapping[str, Role],
    maker: ModuleFunction,
    made_roles: Mapping[Role, str],
    *,
    trim: bool,
) -> ModuleFunction:
    """Joins both to one function: texts in, the encoder's outputs and ``sequence_len`` out.

    Args:
        encoder: takes ids, mask and optionally types.
        encoder_roles: role by input name.
        maker: takes texts.
        made_roles: output name by role.
        trim: remove the padding that no text of a batch needs, which saves most of the work on short texts.

    Raises:
        SourceError: the encoder needs an input that the preprocessing module does not return.
    """
    tf = import_tensorflow()
    missing = sorted(name for name, role in encoder_roles.items() if role not in made_roles)
    if missing:
        raise SourceError(
            f"The encoder takes {', '.join(sorted(encoder_roles))}, the preprocessing module returns "
            f"{', '.join(sorted(made_roles.values()))}: nothing for {', '.join(missing)}. Use the "
            "preprocessing module that the encoder's page names."
        )

    def call(text: Any) -> dict[str, Any]:
        made = maker.call(**dict.fromkeys(maker.inputs, text))
        lengths = tf.reduce_sum(tf.cast(made[made_roles["mask"]], tf.int32), axis=1)
        stop = tf.reduce_max(lengths) if trim else None
        fed = {
            name: tf.cast(made[made_roles[role]][:, :stop], encoder.inputs[name].dtype)
            for name, role in encoder_roles.items()
        }
        return encoder.call(**fed) | {LENGTHS: lengths}

    return ModuleFunction("serving_default", {"text": tf.TensorSpec([None], tf.string, name="text")}, call)


def takes_any_length(encoder: ModuleFunction) -> bool:
    """Whether the encoder accepts fewer tokens than the preprocessing module pads to."""
    shapes = [spec.shape for spec in encoder.inputs.values()]
    return all(shape.rank is None or shape[1] is None for shape in shapes)
