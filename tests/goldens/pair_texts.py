"""A thousand pairs of texts, the same wherever they are made: recorded scores are stored without them."""

from __future__ import annotations

_WORDS = (
    *("the", "cat", "sat", "on", "mat.", "which", "3", "cities", "Zürich,", "北京", "unbelievably", "long"),
    *(
        "sentence",
        "of",
        "many",
        "words",
        "[SEP]",
        "</s>",
        "it's",
        "a",
        "question?",
        "until",
        "two",
        " spaced ",
    ),
)
NUM_PAIRS = 1000
# Tokens of a pair in the recorded scores: many pairs are longer, several by their first text alone.
MAX_TOKENS = 40


def _text(number: int, step: int, length: int) -> str:
    return " ".join(_WORDS[(number * 7 + at * step + at * at) % len(_WORDS)] for at in range(length))


def pair(number: int) -> tuple[str, str]:
    """A question and a passage; every 50th has an empty second text, others an empty first, or none."""
    first = _text(number, 3 + number % 5, 1 + number % 11 + (30 if number % 37 == 0 else 0))
    second = _text(number + 11, 1 + number % 7, number * number % 29 + (60 if number % 41 == 0 else 0))
    if number % 50 == 7:
        second = ""
    if number % 50 == 9:
        first = ""
    return ("", "") if number == 99 else (first, second)


PAIRS = [pair(number) for number in range(NUM_PAIRS)]
