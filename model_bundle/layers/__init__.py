"""Keras 3 layers to train on top of model bundles. Importing this imports TensorFlow and Keras.

Importing it is also what makes a fresh process know them: after ``import model_bundle.layers``,
``keras.saving.load_model(path)`` needs no custom objects.
"""

from __future__ import annotations

from model_bundle.layers.embedding import BundleEmbedding
from model_bundle.layers.mix import ScalarMix

__all__ = ["BundleEmbedding", "ScalarMix"]
