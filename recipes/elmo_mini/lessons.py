"""Training data of elmo-mini: words and texts with the teacher's vectors, and sentences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from recipes.bert_mini.sentences import read_sentences
from recipes.bert_mini.start import principal_axes, token_weights
from recipes.bert_mini.teacher import Teacher
from recipes.bert_mini.texts import training_texts
from recipes.elmo_mini.shape import PROJECTION_DIM, SEED
from recipes.elmo_mini.words import Lexicon, split
from recipes.held_out import without_held_out

# Sentences held out from the language model, to measure its perplexity.
NUM_TESTED = 512
# Held-out texts, on which the layer mix is chosen.
NUM_HELD = 1_024


@dataclass(frozen=True)
class Lessons:
    """Training data; words are indexes into the lexicon.

    ``sentences`` and ``tested`` are for the language model. ``vocabulary`` is int32[words], with
    ``word_vectors`` float32[words, projection_dim] and
    ``word_shares`` float64[words], how often each is taken. ``taught`` are texts with ``vectors``, those of
    the teacher, float16[texts, 384]; ``common_axes`` float32[384, projection_dim] brings those to the
    size of a word's vector.
    """

    lexicon: Lexicon
    sentences: list[np.ndarray]
    tested: list[np.ndarray]
    vocabulary: np.ndarray
    word_vectors: np.ndarray
    word_shares: np.ndarray
    taught: list[np.ndarray]
    vectors: np.ndarray
    common_axes: np.ndarray

    def learned(self, shortest: int, longest: int) -> np.ndarray:
        """Returns int64[texts]: training texts of these lengths without held-out ones, in random order."""
        return self._of_length(self._drawn()[NUM_HELD:], shortest, longest)

    def held(self, shortest: int, longest: int) -> np.ndarray:
        """Returns int64[texts]: held-out texts of these lengths."""
        return self._of_length(self._drawn()[:NUM_HELD], shortest, longest)

    def _drawn(self) -> np.ndarray:
        return np.random.default_rng(SEED).permutation(len(self.taught))

    def _of_length(self, which: np.ndarray, shortest: int, longest: int) -> np.ndarray:
        lengths = np.array([len(self.taught[index]) for index in which])
        return which[(lengths >= shortest) & (lengths <= longest)]


def text_means(running: np.ndarray, texts: Sequence[np.ndarray]) -> np.ndarray:
    """Returns [texts, dim], the mean per text of [words, dim] with the texts' words concatenated."""
    lengths = np.array([len(words) for words in texts])
    return np.asarray(np.add.reduceat(running, np.cumsum(lengths) - lengths, axis=0) / lengths[:, np.newaxis])


def make_lessons(text: Path, teacher: Teacher) -> Lessons:
    """Builds the training data from the sentence file, generated phrases and the teacher.

    Raises:
        ValueError: ``text`` is another file.
    """
    sentences = split(without_held_out(read_sentences(text)))
    kinds = training_texts(text)
    vectors = np.concatenate([teacher.vectors(some, kind) for kind, some in kinds.items()])
    taught = split([some for texts in kinds.values() for some in texts])
    axes = principal_axes(vectors, PROJECTION_DIM)
    vocabulary, word_vectors = _word_lessons(teacher, sentences, axes)
    counted = Counter(word for words in taught for word in words)
    frequent = np.sqrt([1.0 + counted[word] for word in vocabulary])
    lexicon = Lexicon([*sentences, *taught, vocabulary])
    numbers = [lexicon.numbers(words) for words in sentences]
    return Lessons(
        lexicon=lexicon,
        sentences=numbers[:-NUM_TESTED],
        tested=numbers[-NUM_TESTED:],
        vocabulary=lexicon.numbers(vocabulary),
        word_vectors=word_vectors,
        word_shares=frequent / frequent.sum(),
        taught=[lexicon.numbers(words) for words in taught],
        vectors=vectors,
        common_axes=np.asarray(axes, np.float32),
    )


def _word_lessons(
    teacher: Teacher, sentences: Sequence[Sequence[str]], axes: np.ndarray
) -> tuple[list[str], np.ndarray]:
    """Returns the teacher's vectors of single words, also capitalised, scaled down for frequent ones."""
    known = Tokenizer.from_file(str(teacher.tokenizer_file)).get_vocab()
    by_id = sorted(known, key=known.__getitem__)
    single = teacher.vectors([token.removeprefix("##") for token in by_id], "vocabulary").astype(np.float32)
    counted = Counter(word.lower() for words in sentences for word in words)
    counts = np.array([1 + counted[token] for token in by_id], np.float64)
    table = ((single - single.mean(axis=0)) @ axes) * token_weights(counts)[:, np.newaxis]
    table *= np.sqrt(PROJECTION_DIM)
    kept = [place for place, token in enumerate(by_id) if _is_word(token)]
    words = [by_id[place] for place in kept]
    return words + [word.capitalize() for word in words], np.concatenate([table[kept], table[kept]])


def _is_word(token: str) -> bool:
    return not token.startswith(("##", "["))
