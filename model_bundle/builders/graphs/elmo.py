"""ELMo: a biLM, the mix of its layers, and the cache of its word vectors. Imports TensorFlow."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tensorflow as tf

from model_bundle.builders.graphs.elmo_characters import BEGIN_TOKEN, END_TOKEN, CharacterEncoder
from model_bundle.builders.graphs.elmo_lstm import BidirectionalLstm, LayerState
from model_bundle.builders.graphs.elmo_options import BilmOptions, check_weights

# Bytes of cached word vectors per precision: 65,000 words of the original ELMo.
_CACHE_BYTES = 1 << 27


class Elmo(tf.Module):
    """Contextual word vectors of a biLM.

    Args:
        options: its shape.
        weights: float32 arrays, named as in ``weight_shapes``.
        source: where they came from, for errors.
        boundaries: whether rows for the begin and end of the sentence surround the words inside the LSTMs,
            as in bilm and AllenNLP. They are never part of a result.
        layer_weights: factors of the mix, used as they are, word vectors first; None is the plain mean.
        gamma: the scale of the mix.

    Raises:
        WeightsMismatchError: options and weights do not belong together.

    Source: Peters et al., arXiv:1802.05365; allenai/bilm-tf.
    """

    def __init__(
        self,
        options: BilmOptions,
        weights: Mapping[str, np.ndarray],
        source: str,
        *,
        boundaries: bool = True,
        layer_weights: Sequence[float] | None = None,
        gamma: float = 1.0,
    ) -> None:
        super().__init__(name="elmo")
        check_weights(options, weights, source)
        self.options = options
        self.boundaries = boundaries
        self._characters = CharacterEncoder(options, weights)
        self._layers = [BidirectionalLstm(options, weights, index) for index in range(options.num_layers)]
        cached_words = _CACHE_BYTES // (4 * (options.projection_dim + 1))
        self._caches = {
            dtype.name: WordCache(options.projection_dim, cached_words) for dtype in (tf.float32, tf.bfloat16)
        }
        num_mixed = options.num_layers + 1
        self._mix = ScalarMix(layer_weights or [1.0 / num_mixed] * num_mixed, gamma)

    def encode_words(self, words: tf.Tensor, dtype: tf.DType = tf.float32) -> tf.Tensor:
        """Computes vectors without context: string[words] to float32[words, projection_dim]."""
        return tf.cast(self._characters.encode(words, dtype), tf.float32)

    def encode(
        self,
        tokens: tf.Tensor,
        lengths: tf.Tensor,
        dtype: tf.DType = tf.float32,
        state: Sequence[LayerState] | None = None,
        boundaries: bool | None = None,
    ) -> tuple[dict[str, tf.Tensor], list[LayerState]]:
        """Computes every layer.

        Args:
            tokens: string[texts, words]. Anything past a text's length is ignored.
            lengths: int32[texts], words per text.
            dtype: the dtype of the matrix products, float32 or bfloat16.
            state: the initial state of each layer; the returned state is then exact. None is zero for every
                text, and the returned state has run on over padding.
            boundaries: overrides the model's own, to find out how existing vectors were made.

        Returns:
            Outputs by name, and each layer's final state. ``word_emb`` float32[texts, words,
            projection_dim]; ``lstm_outputs1`` and so on, and their mix ``elmo``, float32[texts, words,
            2 * projection_dim]; ``default``, the mean of ``elmo`` over the words of a text, float32[texts,
            2 * projection_dim]; ``sequence_len`` int32[texts]. Past a text's length all are zero, and so is
            ``default`` for a text without words.
        """
        with tf.control_dependencies(_length_checks(tokens, lengths)):
            lengths = tf.identity(lengths)
        surrounded = self.boundaries if boundaries is None else boundaries
        padded, total = _surround(tokens, lengths) if surrounded else _blank_past_end(tokens, lengths)
        vectors = self._look_up(padded, dtype)
        backward = tf.reverse_sequence(vectors, total, seq_axis=0, batch_axis=1)
        words = _finish([vectors], lengths, surrounded)
        names, mixed = ["word_emb"], [tf.concat([words, words], axis=-1)]
        directions, states = (vectors, backward), []
        for index, layer in enumerate(self._layers):
            begin = state[index] if state else None
            directions, final = layer.run(directions, dtype, begin, total if state else None)
            back = tf.reverse_sequence(directions[1], total, seq_axis=0, batch_axis=1)
            mixed.append(_finish([directions[0], back], lengths, surrounded))
            names.append(f"lstm_outputs{index + 1}")
            states.append(final)
        outputs = dict(zip(names, [words, *mixed[1:]], strict=True))
        elmo = self._mix.mix(mixed)
        count = tf.cast(tf.maximum(lengths, 1), tf.float32)[:, tf.newaxis]
        outputs |= {"elmo": elmo, "default": tf.reduce_sum(elmo, axis=1) / count, "sequence_len": lengths}
        return outputs, states

    def _look_up(self, tokens: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
        """Encodes each distinct word once: dtype[words, texts, projection_dim], time first."""
        distinct, positions = tf.unique(tf.reshape(tokens, [-1]))
        positions = tf.reshape(positions, tf.shape(tokens))
        vectors = self._caches[dtype.name].look_up(distinct, lambda new: self.encode_words(new, dtype))
        return tf.transpose(tf.gather(tf.cast(vectors, dtype), positions), [1, 0, 2])


def _surround(tokens: tf.Tensor, lengths: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Blanks tokens past the end, and puts the boundaries around each text."""
    ends = lengths[:, tf.newaxis]
    padded = tf.pad(tokens, [[0, 0], [1, 1]], constant_values=BEGIN_TOKEN)
    columns = tf.range(tf.shape(padded)[1])[tf.newaxis]
    past = tf.where(columns == ends + 1, END_TOKEN, "")
    return tf.where(columns <= ends, padded, past), lengths + 2


def _blank_past_end(tokens: tf.Tensor, lengths: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Blanks tokens past the end, without boundaries."""
    # A loop without steps has no result to stack, so one blank column is added.
    padded = tf.pad(tokens, [[0, 0], [0, 1]])
    return tf.where(tf.range(tf.shape(padded)[1])[tf.newaxis] < lengths[:, tf.newaxis], padded, ""), lengths


def _finish(directions: Sequence[tf.Tensor], lengths: tf.Tensor, surrounded: bool) -> tf.Tensor:
    """Joins directions, removes the boundaries, puts texts first and zeroes values past the end."""
    joined = tf.concat([tf.cast(values, tf.float32) for values in directions], axis=-1)
    joined = joined[1:-1] if surrounded else joined[:-1]
    joined = tf.transpose(joined, [1, 0, 2])
    real = tf.sequence_mask(lengths, tf.shape(joined)[1])[:, :, tf.newaxis]
    return tf.where(real, joined, 0.0)


def _length_checks(tokens: tf.Tensor, lengths: tf.Tensor) -> list[tf.Operation]:
    """Returns operations that fail on lengths that do not fit the tokens."""
    shape = tf.shape(tokens)
    message = "sequence_len needs one number between 0 and the number of columns for each row of tokens"
    return [
        tf.debugging.assert_equal(tf.size(lengths), shape[0], message=message),
        tf.debugging.assert_non_negative(lengths, message=message),
        tf.debugging.assert_less_equal(lengths, shape[1], message=message),
    ]


class WordCache(tf.Module):
    """Caches the context-free vectors of words across calls.

    Texts repeat words, and computing them from characters is a quarter of a model's work, more in a small
    one. The first words are kept until the cache is full; these are mostly the frequent ones.

    Args:
        dim: the size of a vector.
        max_words: the capacity.
    """

    def __init__(self, dim: int, max_words: int) -> None:
        super().__init__(name="word_cache")
        self._dim = dim
        self._max_words = max_words
        # The last number of a row marks it as present. Anonymous, because tables of one name are one table in
        # the whole process, and two models must not share it.
        self._table = tf.lookup.experimental.MutableHashTable(
            tf.string, tf.float32, tf.zeros([dim + 1]), experimental_is_anonymous=True
        )

    def look_up(self, words: tf.Tensor, compute: Callable[[tf.Tensor], tf.Tensor]) -> tf.Tensor:
        """Returns vectors, computing those that are not cached.

        Args:
            words: string[words], distinct.
            compute: maps string[n], n > 0, to float32[n, dim]; a word's result must not depend on the others.

        Returns:
            float32[words, dim].
        """
        rows = tf.ensure_shape(self._table.lookup(words), [None, self._dim + 1])
        is_new = tf.equal(rows[:, -1], 0.0)
        new = tf.boolean_mask(words, is_new)

        def complete() -> tf.Tensor:
            computed = tf.pad(compute(new), [[0, 0], [0, 1]], constant_values=1.0)
            room = tf.maximum(self._max_words - tf.cast(self._table.size(), tf.int32), 0)
            with tf.control_dependencies([self._table.insert(new[:room], computed[:room])]):
                return tf.tensor_scatter_nd_update(rows, tf.where(is_new), computed)

        return tf.cond(tf.size(new) > 0, complete, lambda: rows)[:, :-1]


class ScalarMix(tf.Module):
    """Sums layers with one factor each, and scales the sum.

    Args:
        layer_weights: one factor per layer, word vectors first. No softmax is applied.
        gamma: the scale.

    Source: Peters et al., arXiv:1802.05365, equation 1. Both are variables, like the four trainable
    numbers of the TF-Hub modules, so that a model built on top can train them.
    """

    def __init__(self, layer_weights: Sequence[float], gamma: float) -> None:
        super().__init__(name="aggregation")
        self._weights = tf.Variable(layer_weights, dtype=tf.float32, name="weights")
        self._scaling = tf.Variable(gamma, dtype=tf.float32, name="scaling")

    def mix(self, layers: Sequence[tf.Tensor]) -> tf.Tensor:
        """Returns the weighted sum, float32[..., dim], of one tensor of that shape per layer weight."""
        factors = tf.unstack(self._weights * self._scaling, num=len(layers))
        return tf.add_n([layer * factor for layer, factor in zip(layers, factors, strict=True)])
