"""What is asked of the process that loads a Keras file, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class LoadTask:
    """A Keras model to load, and where to save it.

    ``kind``: ``zip`` (a .keras file), ``h5`` (a whole model), ``json`` (an architecture) or ``factory``.
    ``path``: the file; empty for a factory. ``config``: the architecture in JSON, checked. ``weights``: a
    file, or the prefix of a checkpoint; None where ``path`` holds them. ``lambdas``: ``module:function`` by
    the names of Lambda layers. The rest is as in ``LoadChoices``. ``stand_ins``: let our own
    graphs stand in for transformers' models. ``output``: a folder to make. ``allow_ops``: operations that
    TF-Hub modules in it may use although they reach beyond their graphs.
    """

    kind: Literal["zip", "h5", "json", "factory"]
    path: str
    config: str
    weights: str | None
    factory: str
    custom_objects: tuple[str, ...]
    hub_handles: dict[str, str]
    lambdas: dict[str, str]
    allow_code: bool
    stand_ins: bool
    output: str
    allow_ops: tuple[str, ...] = ()


@dataclass(frozen=True)
class LoadAnswer:
    """What came of it: ``fault`` is None where the model was saved; ``notes`` are for its user."""

    notes: tuple[str, ...] = ()
    fault: str | None = None
