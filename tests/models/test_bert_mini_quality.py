"""The model that ships: what its vectors are worth, and that the quickstart shows what it finds."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from benchmarks.quality import ag_news, sst2, sts
from model_bundle import Encoder
from model_bundle.bundle.resolve import DEFAULT_BUNDLE
from model_bundle.text.sample_data import sample_pattern
from tests.conftest import shared_path
from tests.repository.test_readme import commands
from tests.support.runs.jobs import PROJECT

SECTION = "## Search the sample"


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(DEFAULT_BUNDLE, max_batch_tokens=4096)


@pytest.fixture(scope="module")
def sample() -> dict[str, dict[str, str]]:
    """The documents of the sample by id."""
    pattern = sample_pattern()
    folder, _, name = pattern.rpartition("/")
    files = sorted((PROJECT / "model_bundle" / "text" / "sample_data").glob(name))
    assert files, folder
    records = [json.loads(line) for file in files for line in file.read_text("utf-8").splitlines()]
    return {record["id"]: record for record in records}


def test_it_is_an_encoder_of_sentences(encoder: Encoder) -> None:
    cat, kitten, bank = encoder.encode(["A cat sleeps.", "The kitten is asleep!", "Interest rates rose."])
    assert cat.shape == (192,)
    assert np.linalg.norm(cat) == pytest.approx(1.0, abs=1e-5)
    assert cat @ kitten > 0.5 > 0.2 > cat @ bank


def test_neighbours_in_the_sample_share_their_topic(
    encoder: Encoder, sample: dict[str, dict[str, str]]
) -> None:
    vectors = encoder.encode([record["text"] for record in sample.values()])
    topics = np.array([record["topic"] for record in sample.values()])
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, -1.0)
    # One in eight would by chance.
    assert (topics[cosines.argmax(axis=1)] == topics).mean() >= 0.75


def test_the_quickstart_shows_what_is_found(encoder: Encoder, sample: dict[str, dict[str, str]]) -> None:
    page = (PROJECT / "docs" / "quickstart.md").read_text(encoding="utf-8")
    text = page.partition(SECTION)[2].partition("\n## ")[0]
    (words,) = [words for words in commands(text) if "beam_jobs.search" in words]
    queries = [words[place + 1] for place, word in enumerate(words) if word == "--query"]
    shown = re.findall(r"^  \d +(\d\.\d+)  ([a-z]+-\d+) ", text, re.MULTILINE)
    vectors = encoder.encode([record["text"] for record in sample.values()])
    names, top = list(sample), int(words[words.index("--top") + 1])
    found = []
    for query in encoder.encode(queries):
        cosines = vectors @ query
        found += [(names[place], cosines[place]) for place in np.argsort(-cosines)[:top]]
    assert [name for _, name in shown] == [name for name, _ in found]
    assert [float(cosine) for cosine, _ in shown] == pytest.approx([c for _, c in found], abs=2e-3)


@pytest.mark.slow
@pytest.mark.needs_shared
@pytest.mark.parametrize(("measure", "least"), [(sts, 0.81), (sst2, 0.75), (ag_news, 0.85)])
def test_it_is_as_good_as_its_card_says(encoder: Encoder, measure: object, least: float) -> None:
    assert callable(measure)
    assert measure(encoder, shared_path("data")) >= least
