"""The sample text is what its docstring says: readable, mixed, without repetition, and licensed."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from model_bundle.text.sample_data import sample_pattern

NUM_SHARDS = 4
NUM_TOPICS = 8


def _shard_paths() -> list[Path]:
    pattern = Path(sample_pattern())
    return sorted(pattern.parent.glob(pattern.name))


def _documents(path: Path) -> list[dict[str, str]]:
    """Reads one shard strictly: bad UTF-8, bad JSON and blank lines raise."""
    return [json.loads(line) for line in path.read_bytes().decode("utf-8").removesuffix("\n").split("\n")]


@pytest.fixture(scope="module")
def shards() -> dict[str, list[dict[str, str]]]:
    return {path.name: _documents(path) for path in _shard_paths()}


@pytest.fixture(scope="module")
def documents(shards: dict[str, list[dict[str, str]]]) -> list[dict[str, str]]:
    return [document for shard in shards.values() for document in shard]


def test_pattern_finds_every_shard_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = [path.name for path in _shard_paths()]
    assert names == [f"sample-{shard:05d}-of-{NUM_SHARDS:05d}.jsonl" for shard in range(NUM_SHARDS)]


def test_every_line_ends_and_has_the_three_fields(documents: list[dict[str, str]]) -> None:
    assert all(path.read_bytes().endswith(b"}\n") for path in _shard_paths())
    assert all(list(document) == ["id", "topic", "text"] for document in documents)
    assert all(isinstance(value, str) for document in documents for value in document.values())


def test_ids_are_unique_and_name_their_topic(documents: list[dict[str, str]]) -> None:
    assert len(documents) >= 200
    assert len({document["id"] for document in documents}) == len(documents)
    assert all(document["id"].rpartition("-")[0] == document["topic"] for document in documents)


def test_texts_are_neither_blank_nor_repeated(documents: list[dict[str, str]]) -> None:
    texts = [document["text"] for document in documents]
    assert all(text == text.strip() and text for text in texts)
    assert len({" ".join(text.casefold().split()) for text in texts}) == len(texts)


def test_sentences_do_not_repeat_a_template(documents: list[dict[str, str]]) -> None:
    openings = Counter(tuple(document["text"].casefold().split()[:4]) for document in documents)
    assert openings.most_common(1)[0][1] <= 2, openings.most_common(3)


def test_lengths_are_those_of_short_documents(documents: list[dict[str, str]]) -> None:
    num_words = [len(document["text"].split()) for document in documents]
    assert max(num_words) <= 60
    assert 2 <= sum(count < 12 for count in num_words) <= 8


def test_some_texts_leave_ascii(documents: list[dict[str, str]]) -> None:
    text = " ".join(document["text"] for document in documents)
    assert all(
        word in text for word in ("café", "naïve", "Kraków", "São Paulo", "\N{GREEK SMALL LETTER MU}m")
    )
    assert "\N{MICRO SIGN}" not in text  # one letter, one code point: tokenizers keep the two apart


def test_every_shard_mixes_all_topics(shards: dict[str, list[dict[str, str]]]) -> None:
    for name, shard in shards.items():
        topics = [document["topic"] for document in shard]
        assert len(set(topics)) == NUM_TOPICS, name
        num_changes = sum(left != right for left, right in pairwise(topics))
        assert num_changes > len(topics) / 2, f"{name} looks sorted by topic"


def test_topics_are_evenly_spread(documents: list[dict[str, str]]) -> None:
    counts = Counter(document["topic"] for document in documents)
    assert max(counts.values()) - min(counts.values()) <= 1, counts


def test_licence_lies_beside_the_text() -> None:
    notice = Path(sample_pattern()).with_name("LICENSE.txt").read_text(encoding="utf-8")
    assert "written for this project" in notice
    assert "SPDX-License-Identifier: Apache-2.0" in notice
