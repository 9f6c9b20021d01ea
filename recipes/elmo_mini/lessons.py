"""What elmo-mini learns from: words with the teacher's vectors of them, sentences, and taught texts."""

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
from recipes.elmo_mini.shape import PROJECTION_DIM
from recipes.elmo_mini.words import Lexicon, split
from recipes.held_out import without_held_out

# Sentences that the language model never sees: its perplexity is measured on them.
NUM_TESTED = 512


@dataclass(frozen=True)
class Lessons:
    """Words are numbers of the lexicon everywhere.

    ``sentences`` and ``tested`` are for the language model. ``vocabulary`` is int32[words], with
    ``word_vectors`` float32[words, projection_dim] and
    ``word_shares`` float64[words], how often each is taken. ``taught`` are texts with ``vectors``, those of
    the teacher, float16[texts, 384]; ``axes`` float32[384, 2 * projection_dim] brings those to the size
    of a text's vector.
    """

    lexicon: Lexicon
    sentences: list[np.ndarray]
    tested: list[np.ndarray]
    vocabulary: np.ndarray
    word_vectors: np.ndarray
    word_shares: np.ndarray
    taught: list[np.ndarray]
    vectors: np.ndarray
    axes: np.ndarray


def make_lessons(text: Path, teacher: Teacher) -> Lessons:
    """Makes everything from the file of sentences, our own phrases and the teacher.

    Raises:
        ValueError: ``text`` is another file.
    """
    sentences = split(without_held_out(read_sentences(text)))
    kinds = training_texts(text)
    vectors = np.concatenate([teacher.vectors(some, kind) for kind, some in kinds.items()])
    taught = split([some for texts in kinds.values() for some in texts])
    axes = joint_axes(vectors)
    vocabulary, word_vectors = _word_lessons(teacher, sentences, vectors)
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
        axes=axes,
    )


def joint_axes(vectors: np.ndarray, half: int = PROJECTION_DIM) -> np.ndarray:
    """Gives float32[dim, 2 * half]: principal axes, turned so that both halves share the first ones.

    A word's own vector stands in both halves of a text's vector, forwards and backwards. So what texts
    differ in most is what both halves have in common, and the rest is their difference; cosines do not
    change by it.
    """
    axes = principal_axes(vectors, 2 * half)
    common, different = axes[:, :half], axes[:, half:]
    return np.asarray(
        np.concatenate([common + different, common - different], axis=1) / np.sqrt(2.0), np.float32
    )


def _word_lessons(
    teacher: Teacher, sentences: Sequence[Sequence[str]], vectors: np.ndarray
) -> tuple[list[str], np.ndarray]:
    """The teacher's vectors of single words, small for frequent ones; each word also with a capital."""
    known = Tokenizer.from_file(str(teacher.tokenizer_file)).get_vocab()
    by_id = sorted(known, key=known.__getitem__)
    single = teacher.vectors([token.removeprefix("##") for token in by_id], "vocabulary").astype(np.float32)
    counted = Counter(word.lower() for words in sentences for word in words)
    counts = np.array([1 + counted[token] for token in by_id], np.float64)
    axes = principal_axes(vectors, PROJECTION_DIM)
    table = ((single - single.mean(axis=0)) @ axes) * token_weights(counts)[:, np.newaxis]
    table *= np.sqrt(PROJECTION_DIM)
    kept = [place for place, token in enumerate(by_id) if _is_word(token)]
    words = [by_id[place] for place in kept]
    return words + [word.capitalize() for word in words], np.concatenate([table[kept], table[kept]])


def _is_word(token: str) -> bool:
    return not token.startswith(("##", "["))
