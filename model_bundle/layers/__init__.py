"""Keras 3 layers to train on top of model bundles. Importing this imports TensorFlow and Keras.

The import also registers them with Keras: after ``import model_bundle.layers``,
``keras.saving.load_model(path)`` needs no custom objects. Read ``embedding``, then what it uses: ``graph``
and ``inputs``; ``mix`` is a layer of its own.
"""

from __future__ import annotations

from model_bundle.layers.embedding import BundleEmbedding
from model_bundle.layers.mix import ScalarMix

__all__ = ["BundleEmbedding", "ScalarMix"]
