"""Two texts as one input: ids, segments and truncation of the tokenizers library, windows, no room."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from model_bundle.bundle.specs import PairTruncation
from model_bundle.errors import BundleFormatError, SettingsError
from model_bundle.text.pairs import PairInput, PairWindowInput
from model_bundle.text.unknown import unknown_tokens
from tests.conftest import DATA_DIR
from tests.support.examples import examples

FILES = {name: DATA_DIR / name / "tokenizer.json" for name in ("tiny_bert", "tiny_roberta")}
TEXTS = st.lists(
    st.sampled_from(["the", "cat", "unbelievably", "[SEP]", "</s>", " 3", "北京"]), max_size=9
).map(" ".join)


@settings(max_examples=examples(90), deadline=None)
@given(
    pairs=st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=3),
    max_tokens=st.integers(5, 30),
    truncation=st.sampled_from(get_args(PairTruncation)),
)
@pytest.mark.parametrize("name", FILES)
def test_ids_and_segments_are_those_of_the_library(
    name: str, pairs: list[tuple[str, str]], max_tokens: int, truncation: PairTruncation
) -> None:
    reference = Tokenizer.from_file(str(FILES[name]))
    whole = [len(reference.encode(*pair)) for pair in pairs]
    reference.enable_truncation(max_tokens, strategy=truncation)
    found = PairInput(FILES[name], max_tokens, 0, truncation).prepare(pairs)
    assert found.num_tokens.tolist() == whole
    batch = found.batch(np.arange(len(pairs)))
    for at, pair in enumerate(pairs):
        try:
            encoding = reference.encode(*pair)
        except Exception:  # the library raises nothing more specific
            assert found.is_unfit[at]
            continue
        assert not found.is_unfit[at]
        length = len(encoding)
        assert found.lengths[at] == length == whole[at] - found.num_cut[at].sum()
        assert batch["ids"][at, :length].tolist() == encoding.ids
        assert batch["types"][at, :length].tolist() == encoding.type_ids
        assert batch["mask"][at].sum() == length
        assert batch["types"][at, length:].sum() == 0


def test_the_text_that_lost_tokens_is_told() -> None:
    found = PairInput(FILES["tiny_bert"], 9, 0, "longest_first").prepare(
        [("the cat", "the " * 9), ("the " * 9, "the cat"), ("the " * 9, "the " * 9), ("cat", "")]
    )
    assert found.num_cut.tolist() == [[0, 5], [5, 0], [6, 6], [0, 0]]


def test_a_limit_must_leave_room_for_text() -> None:
    with pytest.raises(SettingsError, match="4 of them are special tokens"):
        PairInput(FILES["tiny_roberta"], 4, 1, "longest_first")


def test_a_template_with_the_second_text_first_is_refused(tmp_path: Path) -> None:
    tokenizer = Tokenizer(models.WordLevel({"a": 0, "[S]": 1, "[U]": 2}, unk_token="[U]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A [S]", pair="$B:1 [S] $A:0", special_tokens=[("[S]", 1)]
    )
    path = tmp_path / "tokenizer.json"
    tokenizer.save(str(path))
    with pytest.raises(BundleFormatError, match="in another way than the first, then the second"):
        PairInput(path, None, 0, "longest_first")


@settings(max_examples=examples(45), deadline=None)
@given(first=TEXTS, second=TEXTS, max_tokens=st.integers(10, 30), overlap=st.integers(0, 4))
@example(first="the the the the", second="cat", max_tokens=9, overlap=3)
@pytest.mark.parametrize("name", FILES)
def test_windows_begin_with_the_first_text_and_cover_the_second(
    name: str, first: str, second: str, max_tokens: int, overlap: int
) -> None:
    whole = PairInput(FILES[name], None, 0, "longest_first")
    reference = Tokenizer.from_file(str(FILES[name]))
    own = [reference.encode(text, add_special_tokens=False) for text in (first, second)]
    room = max_tokens - whole.num_special - len(own[0])
    windows = PairWindowInput(whole, max_tokens, overlap).prepare([(first, second)])
    pairs = windows.whole
    is_unfit = room < len(own[1]) and room <= overlap  # a pair that is not too long needs no overlap
    assert bool(pairs.is_unfit[0]) == is_unfit  # type: ignore[attr-defined]
    if is_unfit:
        return
    batch = windows.batch(np.arange(len(windows.texts)))
    assert batch["mask"].sum(axis=1).tolist() == windows.lengths.tolist()
    assert windows.lengths.max() <= max_tokens
    seen: list[int] = []
    for at, (begin, stop) in enumerate(windows.spans.tolist()):
        ids = batch["ids"][at][batch["mask"][at] > 0].tolist()
        tail = reference.encode("a", "a").ids[-1]
        fixed = max_tokens - room - 1
        assert ids[:fixed] == reference.encode(first, second).ids[:fixed]
        assert ids[-1] == tail
        part = ids[fixed:-1]
        seen += part[overlap if at else 0 :]
        assert 0 <= begin <= stop <= len(second)
    assert seen == own[1].ids
    assert (windows.spans[0, 0], windows.spans[-1, 1]) == (0, len(second))


def test_an_overlap_without_room_is_refused() -> None:
    whole = PairInput(FILES["tiny_bert"], None, 0, "longest_first")
    with pytest.raises(SettingsError, match="--window_overlap 6"):
        PairWindowInput(whole, 10, 6)


def test_unknown_tokens_are_counted_in_both_texts() -> None:
    whole = PairInput(FILES["tiny_bert"], 20, 0, "longest_first")
    found = unknown_tokens(whole.prepare([("北 cat", "京 京 the"), ("the", "")]))
    assert found is not None
    assert found.of_texts.tolist() == [3, 0]
    assert found.num_own.tolist() == [5, 1]
