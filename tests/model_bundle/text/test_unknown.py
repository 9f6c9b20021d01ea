"""Unknown tokens are counted among those that the model sees, without special tokens, prompt and padding."""

from __future__ import annotations

from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from model_bundle import ModelBundle
from model_bundle.bundle.manifest import TOKENIZER_FILE
from model_bundle.bundle.specs import Rows, TokenizerSpec
from model_bundle.text import text_input, window_input
from model_bundle.text.subwords import SubwordInput
from model_bundle.text.unknown import unknown_tokens
from model_bundle.text.words import WordInput
from tests.conftest import DATA_DIR
from tests.support.examples import examples

BUNDLE = ModelBundle.open("bert-mini")
# Tokenized apart from the code under test: only this counts as known what it says of a text.
TOKENIZER = Tokenizer.from_file(str(BUNDLE.path / TOKENIZER_FILE))
TOKENIZER.no_padding()
TOKENIZER.no_truncation()
UNKNOWN = "[UNK]"
# Words of Thai are unknown; of this many letters every word is. The last one is a special token as text.
WORDS = ["cat", "unbelievable", "don't", "วันนี้อากาศ", "ข้าว", "😂", "x" * 101, "ok😂ok", "[UNK]", "[SEP]"]
TEXTS = st.lists(st.lists(st.sampled_from(WORDS), max_size=20).map(" ".join), min_size=1, max_size=4)
# A tokenizer takes longer to load than to use.
read_texts = cache(partial(text_input, BUNDLE.path, BUNDLE.manifest))
read_windows = cache(partial(window_input, BUNDLE.path, BUNDLE.manifest))
PROMPTS = ("", "query: ", "ถาม: ")


def own_tokens(text: str, prompt: str) -> list[str]:
    """Returns the tokens of a text behind a prompt, which ends with a space."""
    num_prompt = len(TOKENIZER.encode(prompt, add_special_tokens=False).tokens)
    return list(TOKENIZER.encode(prompt + text, add_special_tokens=False).tokens[num_prompt:])


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("rows", [Rows.DOCUMENT, Rows.WORD])
@settings(max_examples=examples(30), deadline=None)
@given(texts=TEXTS, limit=st.sampled_from([None, 8, 13]))
def test_texts_are_counted_as_far_as_the_model_sees_them(
    rows: Rows, prompt: str, texts: list[str], limit: int | None
) -> None:
    found = unknown_tokens(read_texts(limit, prompt, rows).prepare(texts))
    assert found is not None
    num_prompt = len(TOKENIZER.encode(prompt, add_special_tokens=False).tokens)
    room = None if limit is None else limit - 2 - num_prompt
    kept = [own_tokens(text, prompt)[:room] for text in texts]
    assert found.of_texts.tolist() == [tokens.count(UNKNOWN) for tokens in kept]
    assert found.num_own.tolist() == [len(tokens) for tokens in kept]
    assert found.of_rows.tolist() == found.num_fed.tolist() == found.of_texts.tolist()
    assert found.fractions.tolist() == [t.count(UNKNOWN) / max(len(t), 1) for t in kept]
    assert found.of_texts.dtype == found.num_own.dtype == np.int32


@pytest.mark.parametrize("prompt", PROMPTS)
@settings(max_examples=examples(30), deadline=None)
@given(texts=TEXTS, limit=st.sampled_from([10, 15]), overlap=st.sampled_from([0, 3]))
def test_windows_are_counted_each_and_their_text_once(
    prompt: str, texts: list[str], limit: int, overlap: int
) -> None:
    prepared = read_windows(limit, prompt, Rows.WINDOW, overlap).prepare(texts)
    found = unknown_tokens(prepared)
    assert found is not None
    fed = prepared.batch(np.arange(len(prepared.texts)))["ids"]
    in_prompt = TOKENIZER.encode(prompt, add_special_tokens=False).tokens.count(UNKNOWN)
    assert (
        found.of_rows.tolist() == ((fed == TOKENIZER.token_to_id(UNKNOWN)).sum(axis=1) - in_prompt).tolist()
    )
    whole = [own_tokens(text, prompt) for text in texts]
    assert found.of_texts.tolist() == [tokens.count(UNKNOWN) for tokens in whole]
    assert found.num_own.tolist() == [len(tokens) for tokens in whole]
    summed = np.bincount(prepared.texts, found.of_rows, minlength=len(texts))
    assert found.num_fed.tolist() == summed.tolist()


def test_no_texts_have_no_tokens() -> None:
    found = unknown_tokens(text_input(BUNDLE.path, BUNDLE.manifest, 8, "").prepare([]))
    assert found is not None
    assert len(found.of_texts) == len(found.fractions) == 0


def test_models_without_an_unknown_token_count_nothing(tmp_path: Path) -> None:
    spelled = {f"<0x{byte:02X}>": byte for byte in range(256)} | {"<unk>": 256}
    by_byte = Tokenizer(models.BPE(spelled, [], unk_token="<unk>", byte_fallback=True))
    by_byte.save(str(tmp_path / "tokenizer.json"))
    pieces = SubwordInput(tmp_path / "tokenizer.json", None, 0).prepare(["ข้าว 😂"])
    assert len(pieces.ids) > 10
    assert unknown_tokens(pieces) is None
    roberta = SubwordInput(DATA_DIR / "tiny_roberta" / "tokenizer.json", None, 1)
    words = WordInput(TokenizerSpec(kind="words", word_split="spaces", lowercase=False), None)
    assert unknown_tokens(roberta.prepare(["ข้าว 😂"])) is None
    assert unknown_tokens(words.prepare(["ข้าว 😂"])) is None


def test_a_text_of_known_words_has_none_and_an_empty_one_no_fraction() -> None:
    found = unknown_tokens(text_input(BUNDLE.path, BUNDLE.manifest, 8, "").prepare(["a cat", ""]))
    assert found is not None
    assert found.of_texts.tolist() == [0, 0]
    assert found.fractions.tolist() == [0, 0]


@pytest.mark.parametrize(
    "model",
    [
        models.Unigram([("<pad>", 0.0), ("<unk>", 0.0), ("▁a", -1.0)], unk_id=1),
        models.WordLevel({"▁a": 0, "<unk>": 1}, unk_token="<unk>"),
        models.BPE({"▁a": 0, "<unk>": 1, "▁": 2, "a": 3}, [("▁", "a")], unk_token="<unk>"),
    ],
)
def test_every_kind_of_vocabulary_names_its_unknown_token(model: models.Model, tmp_path: Path) -> None:
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    read = SubwordInput(tmp_path / "tokenizer.json", None, 0)
    assert read.unknown_id == 1
    found = unknown_tokens(read.prepare(["a a", "ข"]))
    assert found is not None
    assert found.of_texts[0] == 0
    assert found.of_texts[1] >= 1
