"""ELMo's weighted sum of layers, with trainable weights. Imports TensorFlow and Keras."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from model_bundle.layers.keras_setup import keras


@keras.saving.register_keras_serializable(package="model_bundle")
class ScalarMix(keras.layers.Layer):
    """Sums layers with one trainable factor each, and scales the sum by a trainable gamma.

    Takes a list of float32[..., dim], the output of ``BundleEmbedding(layer="all")``, and returns one
    float32[..., dim] with the mask of the first; with ``pooling="mean"`` float32[texts, dim], the mean over
    real tokens.

    Args:
        normalize: apply a softmax to the factors, so that they add up to 1; they start equal. False uses them
            as they are; they start as 1 / layers.
        pooling: None or ``mean``. A mean never includes padding, which the inputs' mask marks.
        name, trainable, dtype: as for every layer.

    Raises:
        ValueError: the inputs are not a list, or their shapes differ.

    Source: Peters et al., arXiv:1802.05365, equation 1; without the softmax, the recipes of TF-Hub's time.
    """

    def __init__(self, *, normalize: bool = True, pooling: str | None = None, **options: Any) -> None:
        super().__init__(**options)
        if pooling not in (None, "mean"):
            raise ValueError(f"pooling={pooling!r}: expected None or 'mean'.")
        self.normalize = normalize
        self.pooling = pooling
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:
        """Creates the weights: one number per layer, and gamma."""
        shapes = _shapes(input_shape)
        first = 0.0 if self.normalize else 1.0 / len(shapes)
        self.scalars = self.add_weight(
            shape=(len(shapes),), initializer=keras.initializers.Constant(first), name="scalars"
        )
        self.gamma = self.add_weight(shape=(), initializer="ones", name="gamma")
        self.built = True

    def call(self, inputs: Sequence[Any], mask: Any = None) -> Any:
        """See the class."""
        factors = keras.ops.softmax(self.scalars) if self.normalize else self.scalars
        mixed = sum(factors[index] * one for index, one in enumerate(inputs)) * self.gamma
        if self.pooling is None:
            return mixed
        real = _first(mask)
        if real is None:
            return keras.ops.mean(mixed, axis=1)
        weights = keras.ops.cast(real, mixed.dtype)[..., None]
        total = keras.ops.sum(keras.ops.where(weights > 0, mixed, 0.0), axis=1)
        return total / keras.ops.maximum(keras.ops.sum(weights, axis=1), 1.0)

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        """Returns the mask of the first input; None if vectors are pooled."""
        del inputs
        return None if self.pooling else _first(previous_mask)

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        """Returns the shape of one input, without the token axis if pooled."""
        shape = _shapes(input_shape)[0]
        return (shape[0], *shape[2:]) if self.pooling else shape

    def get_config(self) -> dict[str, Any]:
        """Returns the configuration for ``from_config``."""
        return {**super().get_config(), "normalize": self.normalize, "pooling": self.pooling}


def _shapes(input_shape: Any) -> list[tuple[int | None, ...]]:
    if not isinstance(input_shape, (list, tuple)) or not all(
        isinstance(shape, (list, tuple)) for shape in input_shape
    ):
        raise ValueError(
            f"ScalarMix takes a list of layers, as from BundleEmbedding(layer='all'), not {input_shape}."
        )
    shapes = [tuple(shape) for shape in input_shape]
    if len({(len(shape), shape[-1]) for shape in shapes}) > 1:
        raise ValueError(f"ScalarMix: layers have different shapes: {shapes}.")
    return shapes


def _first(mask: Any) -> Any:
    return mask[0] if isinstance(mask, (list, tuple)) and mask else mask
