"""Combines a sentence-transformers folder's modules with the caller's options."""

from __future__ import annotations

from dataclasses import dataclass

from model_bundle.builders.bert.sentence_transformers import SentenceModel
from model_bundle.bundle.specs import ModuleSpec, Pooling, SentenceSpec
from model_bundle.errors import SourceError

_NORMALIZE = ModuleSpec(kind="normalize")


@dataclass(frozen=True)
class Chain:
    """How states become a vector: by ``pooling``, at run time, or in the graph, by ``sentence``.

    ``dim`` is that of the vector. ``normalize``: at run time, last of all.
    """

    pooling: Pooling | None
    normalize: bool
    sentence: SentenceSpec | None
    dim: int


def combine_chain(
    stated: SentenceModel,
    dim: int,
    *,
    pooling: Pooling | None = None,
    normalize: bool | None = None,
    truncate_dim: int | None = None,
) -> Chain:
    """Decides what the graph computes itself: all that is more than one pooling and a normalisation.

    Args:
        stated: the folder's modules.
        dim: of the encoder's states.
        pooling, normalize, truncate_dim: the caller's; None means as stated.

    Raises:
        SourceError: an option does not fit the modules, or modules do not fit each other.
    """
    weighted = [module.kind for module in stated.modules if module.kind != "normalize"]
    if pooling is not None and weighted:
        raise SourceError(
            f"--pooling {pooling}: the model has modules after its own pooling ({', '.join(weighted)}), "
            "trained with it. Omit the option, or build from the encoder's own folder."
        )
    if pooling is Pooling.POOLER and truncate_dim is not None:
        raise SourceError("--truncate_dim does not apply to --pooling pooler; use another, such as mean.")
    if pooling is Pooling.POOLER:
        return Chain(pooling, stated.normalize if normalize is None else normalize, None, dim)
    poolings = stated.poolings if pooling is None else (pooling,)
    full = _dim(stated, dim * max(len(poolings), 1))
    if truncate_dim is not None and truncate_dim > full:
        raise SourceError(f"--truncate_dim {truncate_dim}: the model's vectors have {full} numbers.")
    kept = min(truncate_dim or stated.truncate_dim or full, full)
    cut = None if kept == full else kept
    modules, last = stated.modules, stated.normalize if normalize is None else normalize
    if cut is not None and stated.normalize and normalize is None:
        # Source: encode of sentence-transformers, which truncates after all modules.
        modules, last = (*modules, _NORMALIZE), False
    if len(poolings) < 2 and stated.include_prompt and not modules and cut is None:
        return Chain(poolings[0] if poolings else None, last, None, dim)
    spec = SentenceSpec(
        poolings=poolings or (Pooling.MEAN,),
        include_prompt=stated.include_prompt,
        modules=modules,
        truncate_dim=cut,
    )
    return Chain(None, last, spec, kept)


def _dim(stated: SentenceModel, dim: int) -> int:
    """Follows the number of dimensions through the modules."""
    for index, module in enumerate(stated.modules):
        name = {"dense": "kernel", "layer_norm": "gamma"}.get(module.kind)
        if name is None:
            continue
        shape = stated.weights[f"{index}/{name}"].shape
        if shape[0] != dim:
            raise SourceError(
                f"Module {index + 1} after the pooling ({module.kind}) takes {shape[0]} numbers, the one "
                f"before it gives {dim}. The folders belong to different models."
            )
        dim = shape[-1]
    return dim
