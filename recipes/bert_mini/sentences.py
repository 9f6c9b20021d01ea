"""Training texts from Wikipedia sentences: whole, in parts, in pairs, and with words exchanged."""

from __future__ import annotations

import gzip
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

from model_bundle.bundle.digest import sha256_of

# WikiSplit's small parts, CC BY-SA 4.0. Another file would make another model.
TEXT_SHA256 = "5eb5079a5fb943307aa62a9cf2b680b6280b966697fd27aadff5c34fbbea3015"
MIN_PART_WORDS, MAX_PART_WORDS = 3, 14
MAX_EXCHANGED_WORDS = 2


def read_sentences(path: Path) -> list[str]:
    """Reads sentences from a gzipped file, one per line, and restores the spelling of quotes.

    Raises:
        ValueError: it is not the text that the model was made of.
    """
    digest = sha256_of(path)
    if digest != TEXT_SHA256:
        raise ValueError(
            f"{path} has sha256 {digest}, expected is {TEXT_SHA256}: the sentences that bert-mini is made "
            "of. Name that file with --text."
        )
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        lines = (" ".join(line.replace("''", '"').split()) for line in stream)
        return list(dict.fromkeys(line for line in lines if line))


def parts(sentences: Sequence[str], seed: int) -> Iterator[str]:
    """Cuts one contiguous span of words out of each sentence."""
    choose = random.Random(seed)
    for sentence in sentences:
        words = sentence.rstrip(" .").split()
        count = min(choose.randint(MIN_PART_WORDS, MAX_PART_WORDS), len(words))
        start = choose.randint(0, len(words) - count) if choose.random() < 0.7 else 0
        yield " ".join(words[start : start + count]).strip(" ,;")


def pairs(sentences: Sequence[str], seed: int, count: int) -> Iterator[str]:
    """Joins two sentences or their halves, for texts with two subjects and longer texts."""
    choose = random.Random(seed)
    for _ in range(count):
        first, second = choose.sample(sentences, 2)
        if choose.random() < 0.5:
            first, second = _half(first, choose), _half(second, choose)
        yield f"{first} {second}"


def exchanged(sentences: Sequence[str], seed: int, count: int) -> Iterator[str]:
    """Exchanges words with other sentences, for texts that share most words but not their meaning."""
    choose = random.Random(seed)
    for part in parts(choose.sample(sentences, count), seed):
        words = part.split()
        for _ in range(choose.randint(1, MAX_EXCHANGED_WORDS)):
            words[choose.randrange(len(words))] = choose.choice(choose.choice(sentences).split())
        yield " ".join(words)


def _half(sentence: str, choose: random.Random) -> str:
    words = sentence.split()
    middle = len(words) // 2
    return " ".join(words[:middle] if choose.random() < 0.5 else words[middle:])
