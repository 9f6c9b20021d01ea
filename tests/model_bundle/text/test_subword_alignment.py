"""Words of subword tokenizers: where they stand, which tokens are theirs, none dropped."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_bundle.bundle.bundle import ModelBundle
from model_bundle.bundle.specs import Pooling
from model_bundle.errors import SettingsError
from model_bundle.inference.encoder import Encoder
from model_bundle.inference.results import word_states
from model_bundle.text.subword_alignment import SubwordWordInput
from model_bundle.text.subwords import SubwordInput
from model_bundle.text.window_words import WordParts
from tests.conftest import DATA_DIR
from tests.support.examples import examples
from tests.support.models import heads


def word_input(model: str, max_tokens: int | None = None, prompt: str = "") -> SubwordWordInput:
    return SubwordWordInput(DATA_DIR / model / "tokenizer.json", max_tokens, 0, prompt)


@pytest.mark.parametrize("model", ["tiny_bert", "tiny_roberta"])
def test_words_are_those_that_transformers_tells(model: str) -> None:
    golden = heads.expected(f"{model}_entities")
    prepared = word_input(model).prepare(golden.texts)
    for index, (text, tokens) in enumerate(zip(golden.texts, golden.words, strict=True)):
        wanted: dict[int, list[int]] = {}
        for place, (word, _, _) in enumerate(tokens):
            if word is not None:
                wanted.setdefault(word, []).append(place)
        spelled, spans = prepared.words(index)
        pieces = prepared.pieces(index)
        places = [list(range(first, stop)) for first, stop in pieces]
        whites = [p for p in wanted.values() if not text[tokens[p[0]][1] : tokens[p[-1]][2]].strip()]
        assert [*places, *whites] == unordered([*places, *whites], list(wanted.values()))
        assert [text[start:stop] for start, stop in spans] == spelled == [word.strip() for word in spelled]
        assert prepared.num_words[index] == len(spelled)


def unordered(found: list[list[int]], wanted: list[list[int]]) -> list[list[int]]:
    """Returns ``found`` where both hold the same."""
    return found if sorted(found) == sorted(wanted) else wanted


def test_words_of_a_sentence() -> None:
    prepared = word_input("tiny_bert").prepare(["The unbelievably  long cat's mat,"])
    spelled, spans = prepared.words(0)
    assert spelled == ["The", "unbelievably", "long", "cat", "'", "s", "mat", ","]
    assert spans.tolist()[:3] == [[0, 3], [4, 16], [18, 22]]
    assert prepared.pieces(0).tolist()[:3] == [[1, 2], [2, 5], [5, 6]]


@pytest.mark.parametrize("model", ["tiny_bert", "tiny_roberta"])
@settings(max_examples=examples(60), deadline=None)
@given(texts=st.lists(st.text(max_size=40), max_size=5), limit=st.integers(3, 20))
def test_every_letter_that_the_tokenizer_takes_is_in_one_word(
    model: str, texts: list[str], limit: int
) -> None:
    full, cut = word_input(model).prepare(texts), word_input(model, limit).prepare(texts)
    plain = SubwordInput(DATA_DIR / model / "tokenizer.json", limit, 0).prepare(texts)
    np.testing.assert_array_equal(plain.ids, cut.ids)
    np.testing.assert_array_equal(plain.num_tokens, cut.num_tokens)
    for index in range(len(texts)):
        words, spans = full.words(index)
        assert (spans[1:, 0] >= spans[:-1, 1]).all() or model == "tiny_roberta"
        kept_words, kept_spans = cut.words(index)
        assert words[: len(kept_words)] == kept_words
        np.testing.assert_array_equal(spans[: len(kept_words)], kept_spans)
        pieces = cut.pieces(index)
        assert ((pieces > 0) & (pieces < cut.lengths[index])).all()  # neither [CLS] nor [SEP]
        missing = full.pieces(index)[len(kept_words) :]
        assert (missing[:, 0] >= cut.lengths[index] - 1).all()  # no word is dropped that had room
        assert cut.num_words[index] == len(words)


@pytest.mark.parametrize("splits", [True, False])
def test_words_of_sentencepiece_have_no_spaces(splits: bool, tmp_path: Path) -> None:
    """As XLM-RoBERTa has it, with white space cut away first, and without."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    pieces = ["<s>", "<pad>", "</s>", "<unk>", "▁", "▁the", "▁cat", "s", "▁sa", "t", ",", "é", "f", "▁ca"]
    backend = Tokenizer(models.Unigram([(piece, -float(i)) for i, piece in enumerate(pieces)], unk_id=3))
    backend.normalizer = normalizers.NFKC()
    metaspace = pre_tokenizers.Metaspace()
    backend.pre_tokenizer = (
        pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), metaspace]) if splits else metaspace
    )
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    backend.save(str(tmp_path / "tokenizer.json"))
    text = " the cats,  sat café ½ x "
    prepared = SubwordWordInput(tmp_path / "tokenizer.json", None, 1).prepare([text, ""])
    spelled, spans = prepared.words(0)
    assert spelled == ["the", "cats,", "sat", "café", "½", "x"]
    assert [text[start:stop] for start, stop in spans] == spelled
    assert prepared.num_words.tolist() == [6, 0]
    assert prepared.pieces(1).shape == (0, 2)


def test_a_prompt_is_no_part_of_the_text() -> None:
    prepared = word_input("tiny_bert", prompt="the cat: ").prepare(["a mat"])
    spelled, spans = prepared.words(0)
    assert spelled == ["the", "cat", ":", "a", "mat"]
    assert spans.tolist() == [[0, 0], [0, 0], [0, 0], [0, 1], [2, 5]]


def test_a_word_is_the_mean_of_its_pieces_or_the_first() -> None:
    states = np.arange(10, dtype=np.float32).reshape(5, 2)
    pieces = np.array([[0, 1], [1, 3], [4, 5]], dtype=np.int32)
    whole = WordParts.whole(pieces)
    mean = word_states(states, whole)
    np.testing.assert_array_equal(mean, [[0, 1], [3, 4], [8, 9]])
    first = word_states(states, whole.first_pieces())
    np.testing.assert_array_equal(first, [[0, 1], [2, 3], [8, 9]])
    assert word_states(states, WordParts.whole(pieces[:0])).shape == (0, 2)


@pytest.mark.parametrize("model", ["tiny_bert", "tiny_roberta"])
def test_vectors_of_words_are_means_of_what_pytorch_gives(
    model: str, build_tiny: Callable[[str], ModelBundle]
) -> None:
    with np.load(DATA_DIR / model / "expected.npz") as stored:
        golden = {name: stored[name] for name in stored.files}
    texts = heads.expected(f"{model}_entities").texts[: len(golden["ids"])]
    pieces = word_input(model).prepare(texts)
    encoder = Encoder(build_tiny(model), rows="word", max_batch_tokens=64)
    (encoded,) = encoder.encode_buffers(texts)
    for index in range(len(texts)):
        wanted = [golden["states"][-1, index, a:b].mean(axis=0) for a, b in pieces.pieces(index)]
        found = encoded.vectors["states_2"][encoded.row_texts == index]
        np.testing.assert_allclose(found, np.reshape(wanted, (-1, 32)), atol=1e-5)
    assert encoded.words is not None


def test_rows_of_words_are_not_scaled(tiny_bundle: Path) -> None:
    """A bundle that scales vectors of texts does not scale those of words, which are means."""
    encoder = Encoder(tiny_bundle, rows="word")
    assert not encoder.request.normalize
    assert np.abs(np.linalg.norm(encoder.encode(["the cat"]), axis=1) - 1).max() > 0.1
    with pytest.raises(SettingsError, match="normalize the vectors afterwards"):
        Encoder(tiny_bundle, rows="word", normalize=True)
    with pytest.raises(SettingsError, match="leave --pooling out"):
        Encoder(tiny_bundle, rows="word", pooling=Pooling.MEAN)
