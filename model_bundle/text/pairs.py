"""Tokenizes pairs of texts as one model input: a question with a passage, a premise with a hypothesis.

The special tokens and segments come from the tokenizer's own post-processor; truncation is that of the
tokenizers library, which transformers' fast tokenizers use.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from model_bundle.bundle.specs import PairTruncation
from model_bundle.errors import BundleFormatError, SettingsError
from model_bundle.text.subwords import SubwordTexts, groups, join_ids, load_tokenizer, unknown_id
from model_bundle.text.windows import TextWindows, WindowedTexts, character_spans, cut

# Two texts that are scored together, in the order that the model was trained with.
TextPair = tuple[str, str]


@dataclass(frozen=True)
class PairTexts(SubwordTexts):
    """Pairs as ``SubwordTexts``, whose ids are those of both texts and the special tokens.

    ``types``: int32[ids], the segment of each token. ``num_cut``: int32[pairs, 2], tokens dropped from the
    first and the second text. ``is_unfit``: bool[pairs], pairs that the truncation cannot make short enough;
    their ids are truncated in the other way. ``num_separators``: special tokens between the texts.
    """

    types: np.ndarray
    num_cut: np.ndarray
    is_unfit: np.ndarray
    num_separators: int

    @property
    def num_between(self) -> int:
        """Special tokens between the texts."""
        return self.num_separators

    def gather(self, texts: np.ndarray, tokens: np.ndarray, is_real: np.ndarray) -> dict[str, np.ndarray]:
        """See ``WholeTexts.gather``; also returns ``types``, int32[batch, longest]."""
        types = np.zeros(is_real.shape, dtype=np.int32)
        types[is_real] = self.types[(self.starts[texts][:, np.newaxis] + tokens)[is_real]]
        return super().gather(texts, tokens, is_real) | {"types": types}


class PairInput:
    """Tokenizes pairs with the bundle's ``tokenizer.json``.

    Args:
        tokenizer_file: ``tokenizer.json``.
        max_tokens: ids kept per pair, special ones included; None keeps all.
        pad_id: the id of padding.
        truncation: which text loses tokens, see ``kept_tokens``.

    Raises:
        SettingsError: ``max_tokens`` leaves no room for text.
        BundleFormatError: the tokenizer does not put the first text before the second.
    """

    def __init__(
        self, tokenizer_file: Path, max_tokens: int | None, pad_id: int, truncation: PairTruncation
    ) -> None:
        self._tokenizer = load_tokenizer(tokenizer_file)
        self._pad_id = pad_id
        self._unknown_id = unknown_id(self._tokenizer)
        self._frame = _Frame.of(self._tokenizer, tokenizer_file)
        self.num_special = self._frame.num_special
        if max_tokens is not None and max_tokens <= self.num_special:
            raise SettingsError(
                f"--max_tokens {max_tokens}: {self.num_special} of them are special tokens; set a limit that "
                "leaves room for both texts."
            )
        self._room = None if max_tokens is None else max_tokens - self.num_special
        self._truncation = truncation

    def prepare(self, texts: Sequence[TextPair]) -> PairTexts:
        """Tokenizes pairs; a text that is in several of them is tokenized once."""
        return self.collect(texts, {text: _ids(found) for text, found in self.encodings(_unique(texts))})

    def encodings(self, texts: Sequence[str], *, offsets: bool = False) -> Iterator[tuple[str, Any]]:
        """Yields each text and its encoding by the tokenizers library, without special tokens."""
        encode = self._tokenizer.encode_batch if offsets else self._tokenizer.encode_batch_fast
        for group in groups(texts):
            yield from zip(group, encode(list(group), add_special_tokens=False), strict=True)

    def collect(self, texts: Sequence[TextPair], ids: dict[str, np.ndarray]) -> PairTexts:
        """Truncates and concatenates pairs whose texts have these ids."""
        kept, types, num_cut, is_unfit = [], [], [], []
        for first, second in texts:
            both = (ids[first], ids[second])
            wanted = len(both[0]), len(both[1])
            lengths = None if self._room is None else kept_tokens(*wanted, self._room, self._truncation)
            is_unfit.append(self._room is not None and lengths is None)
            short = lengths or wanted
            if is_unfit[-1] and self._room is not None:  # no batch may exceed the model
                short = kept_tokens(*wanted, self._room, "longest_first") or short
            num_cut.append((wanted[0] - short[0], wanted[1] - short[1]))
            kept.append(self._frame.ids_of(both[0][: short[0]], both[1][: short[1]]))
            types.append(self._frame.types_of(*short))
        joined, starts = join_ids(kept)
        cut_tokens = np.array(num_cut, dtype=np.int32).reshape(-1, 2)
        return PairTexts(
            ids=joined,
            starts=starts,
            num_tokens=(np.diff(starts) + cut_tokens.sum(axis=1)).astype(np.int32),
            pad_id=self._pad_id,
            unknown_id=self._unknown_id,
            num_fixed=len(self._frame.head),
            num_tail=len(self._frame.tail),
            num_skipped=0,
            num_separators=len(self._frame.between),
            types=join_ids(types)[0],
            num_cut=cut_tokens,
            is_unfit=np.array(is_unfit, dtype=bool),
        )


def kept_tokens(first: int, second: int, room: int, truncation: PairTruncation) -> tuple[int, int] | None:
    """Returns how many tokens of each text are kept; None if the truncation cannot make them fit.

    ``longest_first`` takes from the longer text until both are equally long, then from both; an odd token
    goes to the longer one, and to the second of two equally long ones. ``only_second`` takes from the second
    alone, of which at least one token must be left.

    Args:
        first, second: tokens of the texts, without special ones.
        room: tokens that both may have together, at least 1.
        truncation: which text loses tokens.

    Source: ``truncate_encodings`` of the tokenizers library.

    >>> kept_tokens(9, 3, 8, "longest_first"), kept_tokens(9, 9, 7, "longest_first")
    ((5, 3), (3, 4))
    >>> kept_tokens(4, 9, 8, "only_second"), kept_tokens(8, 9, 8, "only_second")
    ((4, 4), None)
    """
    if first + second <= room:
        return first, second
    if truncation == "only_second":
        return (first, room - first) if first < room else None
    shorter, longer = sorted((first, second))
    longer = max(shorter, room - shorter)
    if shorter + longer > room:
        shorter, longer = room // 2, room - room // 2
    return (longer, shorter) if first > second else (shorter, longer)


class PairWindowInput:
    """Windows of the second text; each begins with the whole first one.

    Args:
        whole: tokenizes without a limit.
        max_tokens: of a window, including special ones and those of the first text.
        overlap: tokens of the second text that adjacent windows share.

    Raises:
        SettingsError: the overlap leaves a window no room for new tokens.
    """

    def __init__(self, whole: PairInput, max_tokens: int, overlap: int) -> None:
        self._whole = whole
        self._room = max_tokens - whole.num_special
        self._overlap = overlap
        if not 0 <= overlap < self._room - 1:
            raise SettingsError(
                f"--window_overlap {overlap}: after special tokens, a window has room for {self._room}, and "
                "must advance by at least one beside the first text. Use a smaller overlap or a larger "
                "--max_tokens."
            )

    def prepare(self, texts: Sequence[TextPair]) -> WindowedTexts:
        """Tokenizes pairs and splits the second texts; ``is_unfit`` are those whose first leaves no room."""
        ids: dict[str, np.ndarray] = {}
        encodings: dict[str, Any] = {}
        for text, encoding in self._whole.encodings(_unique(texts), offsets=True):
            ids[text], encodings[text] = _ids(encoding), encoding
        whole = self._whole.collect(texts, ids)
        windows = []
        for at, (first, second) in enumerate(texts):
            fixed = len(ids[first]) + whole.num_fixed + whole.num_between
            room = self._room - len(ids[first])
            whole.is_unfit[at] = len(ids[second]) > room and room <= self._overlap
            windows.append(self._cut(encodings[second], len(second), fixed, room))
        return WindowedTexts(whole, windows, whole.num_tail)

    def _cut(self, encoding: Any, num_characters: int, fixed: int, room: int) -> TextWindows:
        def place(token: int) -> tuple[int, int]:
            start, stop = encoding.offsets[token]
            return start, stop

        num_tokens = len(encoding.ids)
        if num_tokens <= room or room <= self._overlap:  # one window; an empty one where nothing fits
            tokens = np.array([[0, num_tokens if num_tokens <= room else 0]], dtype=np.int64)
        else:
            tokens = cut(num_tokens, room, self._overlap)
        return TextWindows(fixed, tokens, character_spans(tokens, place, num_characters))


@dataclass(frozen=True)
class _Frame:
    """The special tokens around two texts, and the segments: of head, first, between, second and tail."""

    head: np.ndarray
    between: np.ndarray
    tail: np.ndarray
    segments: tuple[np.ndarray, int, np.ndarray, int, np.ndarray]

    @classmethod
    def of(cls, tokenizer: Any, file: Path) -> _Frame:
        """Reads them off a pair that the tokenizer's post-processor joined."""
        probe = tokenizer.encode("a", "a")
        owners = list(probe.sequence_ids)
        ids, types = np.array(probe.ids, np.int32), np.array(probe.type_ids, np.int32)
        texts = [owner for owner in owners if owner is not None]
        if set(texts) != {0, 1} or texts != sorted(texts):
            raise BundleFormatError(
                f"{file} joins two texts in another way than the first, then the second. Such a tokenizer is "
                "not supported."
            )
        own = [[at for at, owner in enumerate(owners) if owner == text] for text in (0, 1)]
        head, between, tail = (
            slice(0, own[0][0]),
            slice(own[0][-1] + 1, own[1][0]),
            slice(own[1][-1] + 1, None),
        )
        segments = (types[head], int(types[own[0][0]]), types[between], int(types[own[1][0]]), types[tail])
        return cls(ids[head], ids[between], ids[tail], segments)

    @property
    def num_special(self) -> int:
        """Special tokens of a pair."""
        return len(self.head) + len(self.between) + len(self.tail)

    def ids_of(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Returns int32[tokens]: two texts within their special tokens."""
        return np.concatenate([self.head, first, self.between, second, self.tail])

    def types_of(self, first: int, second: int) -> np.ndarray:
        """Returns int32[tokens]: the segments of two texts of so many tokens."""
        head, of_first, between, of_second, tail = self.segments
        own = np.full(first, of_first, np.int32), np.full(second, of_second, np.int32)
        return np.concatenate([head, own[0], between, own[1], tail])


def _unique(texts: Iterable[TextPair]) -> list[str]:
    return list(dict.fromkeys(text for pair in texts for text in pair))


def _ids(encoding: Any) -> np.ndarray:
    return np.array(encoding.ids, dtype=np.int32)
