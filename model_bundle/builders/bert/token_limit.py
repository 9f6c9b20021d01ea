"""How many tokens of a text a model gets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from model_bundle.builders.bert.families.registry import MIN_TOKENS
from model_bundle.errors import SourceError


@dataclass(frozen=True)
class TokenLimit:
    """The limit, special tokens included, and notes for the user."""

    tokens: int
    notes: tuple[str, ...] = ()


def choose_limit(
    asked: int | None, sentence: Any, tokenizer: int | None, positions: int, where: str
) -> TokenLimit:
    """Returns the limit of sentence-transformers, else of the tokenizer; at most the model's positions.

    Args:
        asked: the caller's, which goes before them.
        sentence: ``max_seq_length`` as stated; None if it is not.
        tokenizer: ``model_max_length``; None if it is not stated.
        positions: of the model.
        where: the folder, for errors.

    Raises:
        SourceError: a limit is no whole number, leaves no room for text, or the caller's is beyond positions.
    """
    if asked is not None and not MIN_TOKENS <= asked <= positions:
        raise SourceError(
            f"--max_tokens {asked}: the model has positions for {positions} tokens, and at least "
            f"{MIN_TOKENS} are needed, because special tokens count."
        )
    is_whole = isinstance(sentence, int) and not isinstance(sentence, bool)
    if sentence is not None and (not is_whole or sentence < MIN_TOKENS):
        raise SourceError(
            f"{where}: 'max_seq_length' is {sentence!r}; expected a whole number of at least {MIN_TOKENS}, "
            "because special tokens count. Correct the file."
        )
    stated = sentence or tokenizer or positions
    if asked is not None or stated <= positions:
        return TokenLimit(asked or stated)
    return TokenLimit(
        positions,
        (f"max_tokens: {positions}, for which the model has positions; its files state {stated}",),
    )
