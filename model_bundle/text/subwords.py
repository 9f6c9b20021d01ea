"""Tokenizes text to subword ids with the tokenizers library (WordPiece, byte-level BPE, …)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from model_bundle.errors import SettingsError

# The library needs about 100 bytes per token and returns whole lists: this many characters at a time keep
# that near 50 MB.
_CHARACTERS_AT_ONCE = 2_000_000


@dataclass(frozen=True)
class SubwordTexts:
    """Ids of all texts in one array, already truncated. ``starts[i]:starts[i + 1]`` are those of text i.

    The first ``num_fixed`` ids of a text are special tokens and the prompt, the last ``num_tail`` special
    tokens. ``unknown_id`` stands for what is not in the vocabulary; None if there is no such token.
    ``num_skipped`` ids at the start are not pooled.
    """

    ids: np.ndarray
    starts: np.ndarray
    num_tokens: np.ndarray
    pad_id: int
    unknown_id: int | None
    num_fixed: int
    num_tail: int
    num_skipped: int

    @property
    def num_between(self) -> int:
        """Special tokens between two texts, where texts are pairs."""
        return 0

    @property
    def lengths(self) -> np.ndarray:
        """int32[texts], ids of each text."""
        return np.diff(self.starts).astype(np.int32)

    def batch(self, texts: np.ndarray) -> dict[str, np.ndarray]:
        """Returns ``ids`` and ``mask``, int32[batch, longest]; ``skipped``, int32[batch], unless it is 0."""
        lengths = self.starts[texts + 1] - self.starts[texts]
        columns = np.arange(int(lengths.max(initial=1)))
        return self.gather(texts, columns[np.newaxis], columns < lengths[:, np.newaxis])

    def gather(self, texts: np.ndarray, tokens: np.ndarray, is_real: np.ndarray) -> dict[str, np.ndarray]:
        """See ``WholeTexts.gather``; returns the same arrays as ``batch``."""
        ids = np.full(is_real.shape, self.pad_id, dtype=np.int32)
        ids[is_real] = self.ids[(self.starts[texts][:, np.newaxis] + tokens)[is_real]]
        arrays = {"ids": ids, "mask": is_real.astype(np.int32)}
        if self.num_skipped:
            arrays["skipped"] = np.full(len(texts), self.num_skipped, dtype=np.int32)
        return arrays


class SubwordInput:
    """Tokenizes with the bundle's ``tokenizer.json``, and truncates as transformers does.

    Args:
        tokenizer_file: ``tokenizer.json``.
        max_tokens: ids kept per text, special ones included; None keeps all.
        pad_id: the id of padding.
        prompt: prefix of every text.
        pools_prompt: False if its tokens, and special ones before it, are not pooled.
    """

    # Without offsets, tokenizing takes two thirds of the time.
    _needs_offsets = False

    def __init__(
        self,
        tokenizer_file: Path,
        max_tokens: int | None,
        pad_id: int,
        prompt: str = "",
        *,
        pools_prompt: bool = True,
    ) -> None:
        self._tokenizer = load_tokenizer(tokenizer_file)
        self._pad_id = pad_id
        self._prompt = prompt
        self.num_head, self.num_tail = _special_tokens(self._tokenizer)
        ((_, probe),) = self.encodings(["a"], offsets=True)
        self.num_fixed = self.num_head + self.num_prompt(probe)
        self.unknown_id = unknown_id(self._tokenizer)
        if max_tokens is not None and max_tokens <= self.num_head + self.num_tail:
            raise SettingsError(
                f"--max_tokens {max_tokens}: {self.num_head + self.num_tail} of them are special tokens; "
                "set a limit that leaves room for text."
            )
        self._max_tokens = max_tokens
        self.num_skipped = 0 if pools_prompt or not prompt else self._count_skipped()

    def _count_skipped(self) -> int:
        """Counts the tokens of the prompt on its own, with special ones before it, as the reference does.

        Source: ``_get_prompt_length`` of sentence-transformers.
        """
        encoding = self._tokenizer.encode(self._prompt)
        count = len(encoding.ids) - encoding.special_tokens_mask[-1]
        if self._max_tokens is not None and count >= self._max_tokens - self.num_tail:
            raise SettingsError(
                f"The prompt has {count} tokens, of at most {self._max_tokens} of an input, and this model "
                "pools only those after it: nothing would be left. Use a shorter prompt."
            )
        return int(count)

    def prepare(self, texts: Sequence[str]) -> SubwordTexts:
        """Tokenizes texts in large groups."""
        return self.collect(self.encodings(texts, offsets=self._needs_offsets))

    def encodings(self, texts: Sequence[str], *, offsets: bool) -> Iterator[tuple[str, Any]]:
        """Yields each text with the prompt, and its encoding by the tokenizers library."""
        tokenizer = self._tokenizer
        encode = tokenizer.encode_batch if offsets else tokenizer.encode_batch_fast
        for group in groups(texts):
            full = [self._prompt + text for text in group]
            yield from zip(full, encode(full), strict=True)

    def collect(self, encodings: Iterable[tuple[str, Any]]) -> SubwordTexts:
        """Truncates and concatenates the results of ``encodings``."""
        kept: list[np.ndarray] = []
        num_tokens: list[int] = []
        for _, encoding in encodings:
            ids = np.array(encoding.ids, dtype=np.int32)
            num_tokens.append(len(ids))
            kept.append(self._truncate(ids))
        ids, starts = join_ids(kept)
        return SubwordTexts(
            ids=ids,
            starts=starts,
            num_tokens=np.array(num_tokens, dtype=np.int32),
            pad_id=self._pad_id,
            unknown_id=self.unknown_id,
            num_fixed=self.num_fixed,
            num_tail=self.num_tail,
            num_skipped=self.num_skipped,
        )

    def num_own(self, encoding: Any) -> int:
        """Counts the tokens of an encoding without special ones."""
        return len(encoding) - self.num_head - self.num_tail

    def num_prompt(self, encoding: Any) -> int:
        """Counts the tokens that begin and end within the prompt, without zero-width ones at its end.

        The encoding needs offsets.
        """
        length = len(self._prompt)
        if not length:
            return 0
        for token in range(self.num_own(encoding)):
            start, stop = encoding.token_to_chars(token + self.num_head)
            if start >= length or stop > length:
                return token
        return self.num_own(encoding)

    def _truncate(self, ids: np.ndarray) -> np.ndarray:
        """Drops tokens at the end of the text; special tokens stay."""
        if self._max_tokens is None or len(ids) <= self._max_tokens:
            return ids
        tail = ids[len(ids) - self.num_tail :]
        return np.concatenate([ids[: self._max_tokens - self.num_tail], tail])


def load_tokenizer(tokenizer_file: Path) -> Any:
    """Loads ``tokenizer.json``, without truncation and padding."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(tokenizer_file))
    # The library can do both, but then the full number of tokens is lost.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _special_tokens(tokenizer: Any) -> tuple[int, int]:
    """Counts the special tokens put before and after a text."""
    mask = tokenizer.encode("a").special_tokens_mask
    num_head = mask.index(0) if 0 in mask else len(mask)
    return num_head, mask[::-1].index(0) if 0 in mask else 0


def unknown_id(tokenizer: Any) -> int | None:
    """Returns the id of text outside the vocabulary; None if the tokenizer can spell every byte."""
    from tokenizers.models import Unigram
    from tokenizers.pre_tokenizers import ByteLevel

    model = tokenizer.model
    # Unigram shows these two only in its serialized form.
    state = json.loads(model.__getstate__()) if isinstance(model, Unigram) else {}
    falls_back = state.get("byte_fallback", getattr(model, "byte_fallback", False))
    number = state.get("unk_id")
    if getattr(model, "unk_token", None) is not None:
        number = model.token_to_id(model.unk_token)
    is_byte_level = "ByteLevel" in repr(tokenizer.pre_tokenizer)
    pieces = ByteLevel.alphabet() if is_byte_level else [f"<0x{byte:02X}>" for byte in range(256)]
    knows_bytes = (is_byte_level or falls_back) and all(model.token_to_id(p) is not None for p in pieces)
    return None if number is None or knows_bytes else int(number)


def join_ids(kept: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Concatenates the ids of texts: int32[ids], and int64[texts + 1] where each text begins."""
    starts = np.zeros(len(kept) + 1, dtype=np.int64)
    np.cumsum([len(ids) for ids in kept], out=starts[1:])
    return (np.concatenate(kept) if kept else np.zeros(0, dtype=np.int32)), starts


def groups(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    """Splits a sequence into groups of at most ``_CHARACTERS_AT_ONCE`` characters."""
    start = size = 0
    for stop, text in enumerate(texts):
        if size and size + len(text) > _CHARACTERS_AT_ONCE:
            yield texts[start:stop]
            start, size = stop, 0
        size += len(text)
    if start < len(texts):
        yield texts[start:]
