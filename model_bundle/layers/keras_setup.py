"""Imports Keras 3 after TensorFlow, whose memory cap must be set before anything imports it."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from model_bundle.runtime.tensorflow_setup import import_tensorflow

tf: Any = import_tensorflow()
keras: Any = import_module("keras")
