"""Keras 3 on TensorFlow, which is set up first: its memory cap must be there before anything imports it."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from model_bundle.runtime.tensorflow_setup import import_tensorflow

tf: Any = import_tensorflow()
keras: Any = import_module("keras")
