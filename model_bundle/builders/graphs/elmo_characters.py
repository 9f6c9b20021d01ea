"""Context-free vectors of words: bytes, convolutions, highways, projection. Imports TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from model_bundle.builders.graphs.elmo_options import BilmOptions

# Ids in the embedding table, whose row 0 means no character. Source: bilm/data.py, all plus one.
_SENTENCE_BEGIN, _SENTENCE_END, _WORD_BEGIN, _WORD_END, _PAD = 257, 258, 259, 260, 261
# The sentence boundaries, in the text or added. Source: ELMoCharacterMapper of AllenNLP.
BEGIN_TOKEN, END_TOKEN = "<S>", "</S>"
# Distinct words computed together: enough for efficient products, while the convolution of 50 characters
# with 1,024 filters stays below 100 MB.
_CHUNK_WORDS = 512


class CharacterEncoder(tf.Module):
    """The character-level word encoder of a biLM.

    Args:
        options: its shape.
        weights: checked float32 arrays, named as in ``weight_shapes``.

    Source: Kim et al., arXiv:1508.06615, as BidirectionalLanguageModelGraph._build_word_char_embeddings of
    bilm implements it.
    """

    def __init__(self, options: BilmOptions, weights: Mapping[str, np.ndarray]) -> None:
        super().__init__(name="characters")
        self._options = options
        no_character = np.zeros((1, options.character_dim), np.float32)
        arrays = {"char_embed": np.concatenate([no_character, weights["char_embed"]])}
        for index, (width, count) in enumerate(options.filters):
            kernel = weights[f"CNN/W_cnn_{index}"].reshape(width * options.character_dim, count)
            arrays |= {f"cnn_{index}/kernel": kernel, f"cnn_{index}/bias": weights[f"CNN/b_cnn_{index}"]}
        for index in range(options.num_highways):
            for part, stored in (("kernel", "W"), ("bias", "b")):
                both = [weights[f"CNN_high_{index}/{stored}_{gate}"] for gate in ("carry", "transform")]
                arrays[f"highway_{index}/{part}"] = np.concatenate(both, axis=-1)
        if options.projects_words:
            arrays |= {
                "projection/kernel": weights["CNN_proj/W_proj"],
                "projection/bias": weights["CNN_proj/b_proj"],
            }
        self._variables = {
            name: tf.Variable(value, name=name, dtype=tf.float32, trainable=False)
            for name, value in arrays.items()
        }

    def encode(self, words: tf.Tensor, dtype: tf.DType = tf.float32) -> tf.Tensor:
        """Computes one vector per word, in chunks of similar length.

        Args:
            words: string[words], UTF-8. Bytes beyond ``max_characters`` minus 2 are cut off.
            dtype: the dtype of the matrix products.

        Returns:
            dtype[words, projection_dim].
        """
        ids, lengths = character_ids(words, self._options.max_characters)
        order = tf.argsort(lengths, direction="DESCENDING")
        ids, lengths = tf.gather(ids, order), tf.gather(lengths, order)
        weights = {name: tf.cast(variable, dtype) for name, variable in self._variables.items()}
        num_words = tf.size(words)
        chunks = tf.TensorArray(
            dtype,
            size=(num_words + _CHUNK_WORDS - 1) // _CHUNK_WORDS,
            element_shape=[None, self._options.projection_dim],
            infer_shape=False,
        )

        def encode_chunk(index: tf.Tensor, chunks: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
            start = index * _CHUNK_WORDS
            used = self._used_columns(lengths[start])
            vectors = self._encode_chunk(ids[start : start + _CHUNK_WORDS, :used], weights)
            return index + 1, chunks.write(index, vectors)

        _, chunks = tf.while_loop(
            lambda index, _: index * _CHUNK_WORDS < num_words,
            encode_chunk,
            [0, chunks],
            parallel_iterations=1,
        )
        return tf.gather(chunks.concat(), tf.math.invert_permutation(order))

    def _used_columns(self, longest: tf.Tensor) -> tf.Tensor:
        """Returns how many columns can change a maximum: the longest word and one window of padding."""
        widest = max(width for width, _ in self._options.filters)
        return tf.minimum(longest + widest, self._options.max_characters)

    def _encode_chunk(self, ids: tf.Tensor, weights: Mapping[str, tf.Tensor]) -> tf.Tensor:
        characters = tf.gather(weights["char_embed"], ids)
        pooled = [self._convolve(index, characters, weights) for index in range(len(self._options.filters))]
        activate = {"relu": tf.nn.relu, "tanh": tf.tanh}[self._options.activation]
        words = activate(tf.concat(pooled, axis=-1))
        for index in range(self._options.num_highways):
            words = self._highway(index, words, weights)
        if self._options.projects_words:
            words = _dense("projection", words, weights)
        return words

    def _convolve(self, index: int, characters: tf.Tensor, weights: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Applies the filters of one width at all positions, and returns the maximum of each filter.

        Adding the bias after the maximum gives the same number.
        """
        width, count = self._options.filters[index]
        shape = tf.shape(characters)
        positions = shape[1] - (width - 1)
        windows = tf.concat([characters[:, k : positions + k] for k in range(width)], axis=-1)
        flat = tf.reshape(windows, [-1, width * self._options.character_dim])
        products = tf.matmul(flat, weights[f"cnn_{index}/kernel"])
        largest = tf.reduce_max(tf.reshape(products, [shape[0], positions, count]), axis=1)
        return tf.nn.bias_add(largest, weights[f"cnn_{index}/bias"])

    def _highway(self, index: int, words: tf.Tensor, weights: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Mixes a layer with its input. The file's "carry" gate is the weight of the transformed value."""
        gate, transformed = tf.split(_dense(f"highway_{index}", words, weights), 2, axis=-1)
        gate = tf.sigmoid(gate)
        return gate * tf.nn.relu(transformed) + (1.0 - gate) * words


def character_ids(words: tf.Tensor, max_characters: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Converts words to character ids.

    Args:
        words: string[words], UTF-8.
        max_characters: number of columns, including the marks around a word.

    Returns:
        int32[words, max_characters] ids between 1 and 261, and int32[words] columns that are not padding.

    Source: UnicodeCharsVocabulary of bilm, ELMoCharacterMapper of AllenNLP.
    """
    room = max_characters - 2
    spelled = tf.cast(tf.io.decode_raw(words, tf.uint8, fixed_length=room), tf.int32) + 1
    lengths = tf.minimum(tf.strings.length(words), room)
    for token, mark in ((BEGIN_TOKEN, _SENTENCE_BEGIN), (END_TOKEN, _SENTENCE_END)):
        is_mark = tf.equal(words, token)
        spelled = tf.where(is_mark[:, tf.newaxis], mark, spelled)
        lengths = tf.where(is_mark, 1, lengths)
    columns, ends = tf.range(room + 1)[tf.newaxis], lengths[:, tf.newaxis]
    spelled = tf.pad(spelled, [[0, 0], [0, 1]])
    spelled = tf.where(columns < ends, spelled, tf.where(columns == ends, _WORD_END, _PAD))
    return tf.pad(spelled, [[0, 0], [1, 0]], constant_values=_WORD_BEGIN), lengths + 2


def _dense(name: str, values: tf.Tensor, weights: Mapping[str, tf.Tensor]) -> tf.Tensor:
    return tf.nn.bias_add(tf.matmul(values, weights[f"{name}/kernel"]), weights[f"{name}/bias"])
