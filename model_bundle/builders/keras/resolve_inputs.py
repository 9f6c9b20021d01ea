"""Resolves how texts and numbers become a model's inputs: columns, tokenizer, limit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model_bundle.builders.keras.input_roles import Role, describe_inputs
from model_bundle.builders.keras.model import KerasModel
from model_bundle.builders.keras.options import KerasChoices
from model_bundle.builders.keras.sidecar_files import Sidecar
from model_bundle.builders.tfhub.function import ModuleFunction
from model_bundle.builders.tokenizer import SubwordTokenizer
from model_bundle.bundle.specs import TokenizerSpec
from model_bundle.errors import SourceError
from model_bundle.text.prepared import NoTextInput, PlainTextInput, TextInput
from model_bundle.text.subwords import SubwordInput
from model_bundle.text.words import WordInput


def columns_of(
    function: ModuleFunction, roles: Mapping[str, Role], choices: KerasChoices, where: str
) -> dict[str, tuple[str, ...]]:
    """Returns the table columns of each numeric input."""
    columns = {}
    for name, role in sorted(roles.items()):
        if role != "numeric":
            continue
        spec = function.inputs[name]
        size = 1 if spec.shape.rank == 1 else spec.shape[1] if spec.shape.rank == 2 else None
        if name not in choices.extra_inputs:
            raise SourceError(
                f"{where} takes numbers: {describe_inputs({name: spec})}. Name their table columns: "
                f"--extra_input {name}=COLUMN,… or {name}=x_1..x_{size or 9} for a row of them."
            )
        columns[name] = choices.extra_inputs[name]
        if size is not None and len(columns[name]) != size:
            raise SourceError(
                f"--extra_input {name}: {len(columns[name])} columns, but the model takes {size} numbers."
            )
    return columns


def tokenizer_of(
    roles: Mapping[str, Role],
    subwords: SubwordTokenizer | None,
    sidecar: Sidecar | None,
    choices: KerasChoices,
    where: str,
) -> TokenizerSpec:
    """Determines how texts become input, and rejects options that have no effect on it.

    Raises:
        SourceError: names such an option.
    """
    kinds = set(roles.values())
    if subwords is not None:
        spec = TokenizerSpec(kind="subwords", lowercase=subwords.lowercase, pad_id=_pad_id(subwords, sidecar))
    elif "words" in kinds:
        split = choices.word_split or "spaces"
        spec = TokenizerSpec(kind="words", word_split=split, lowercase=choices.lowercase)
    else:
        kind: Any = "text" if "text" in kinds else "none"
        spec = TokenizerSpec(kind=kind, lowercase=choices.lowercase if kind == "text" else None)
    unfit = {
        "--word_split": choices.word_split is not None and spec.kind != "words",
        "--max_tokens": choices.max_tokens is not None and spec.kind in ("text", "none"),
        "--tokenizer": choices.tokenizer is not None and spec.kind != "subwords",
        "--lowercase": choices.lowercase is not None and spec.kind == "none",
    }
    for flag, is_unfit in unfit.items():
        if is_unfit:
            takes = {"text": "splits words itself", "none": "takes no text", "words": "takes words"}
            raise SourceError(f"{flag}: {where} {takes.get(spec.kind, 'takes token ids')}. Omit the option.")
    return spec


def _pad_id(subwords: SubwordTokenizer, sidecar: Sidecar | None) -> int:
    from tokenizers import Tokenizer

    stated = sidecar.config.get("pad_token_id") if sidecar else None
    if isinstance(stated, int):
        return stated
    tokenizer = Tokenizer.from_str(subwords.json_text)
    found = (tokenizer.token_to_id(token) for token in ("[PAD]", "<pad>"))
    return next((number for number in found if number is not None), 0)


def max_tokens_of(
    model: KerasModel,
    subwords: SubwordTokenizer | None,
    sidecar: Sidecar | None,
    choices: KerasChoices,
    where: str,
) -> int | None:
    """Returns the token limit: as stated, at most what the graph takes; None if there is none."""
    lengths = {spec.length for spec in model.inputs().values() if spec.length is not None}
    if len(lengths) > 1:
        raise SourceError(
            f"{where} takes inputs of different lengths: {describe_inputs(model.function.inputs)}."
        )
    limits = [*lengths]
    if subwords is not None and not lengths:
        positions = sidecar.config.get("max_position_embeddings") if sidecar else None
        limits = [limit for limit in (positions, subwords.max_tokens) if isinstance(limit, int)]
    limit = min(limits, default=None)
    if choices.max_tokens is None:
        return limit
    if lengths and limit is not None and choices.max_tokens > limit:
        raise SourceError(f"--max_tokens {choices.max_tokens}: {where} takes exactly {limit} tokens.")
    return choices.max_tokens


def make_text_side(
    spec: TokenizerSpec, subwords: SubwordTokenizer | None, max_tokens: int | None, scratch: Path
) -> TextInput:
    """Builds the converter of texts as readers of the bundle will; ``scratch`` gets a tokenizer file."""
    if subwords is not None:
        path = scratch / "tokenizer.json"
        path.write_text(subwords.json_text, encoding="utf-8")
        return SubwordInput(path, max_tokens, spec.pad_id)
    if spec.kind == "words":
        return WordInput(spec, max_tokens)
    return NoTextInput() if spec.kind == "none" else PlainTextInput(lowercase=bool(spec.lowercase))
