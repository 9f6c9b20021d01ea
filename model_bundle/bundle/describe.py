"""Describes a model bundle: a page for people, JSON for programs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from model_bundle.base.untrusted.printable import one_line
from model_bundle.bundle.bundle import ModelBundle
from model_bundle.bundle.manifest import BundleManifest
from model_bundle.bundle.specs import ClassQuality, Precision, PrecisionQuality, SentenceSpec

if TYPE_CHECKING:
    from rich.console import Group


def describe(bundle: ModelBundle) -> dict[str, Any]:
    """Returns what ``--json`` prints: path, digest, bytes and the whole manifest as plain data."""
    return {
        "path": str(bundle.path),
        "digest": bundle.digest,
        "num_bytes": sum(file.size for file in bundle.manifest.files),
        "manifest": bundle.manifest.model_dump(mode="json"),
    }


def page(bundle: ModelBundle) -> Group:
    """Lays out the page."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column(overflow="fold")
    for name, value in _facts(bundle):
        facts.add_row(name, Text(one_line(value)))  # Text: a manifest's values are not markup
    outputs = Table("output", "kind", "dim", "layer", "type", title="Outputs", title_justify="left", box=None)
    for name, spec in bundle.manifest.outputs.items():
        mark = " (default)" if name == bundle.manifest.default_output else ""
        row = (name + mark, spec.kind, str(spec.dim or ""), spec.layer or "", spec.dtype)
        outputs.add_row(*map(Text, map(one_line, row)))
    files = Table("file", "bytes", title="Files", title_justify="left", box=None)
    for file in bundle.manifest.files:
        files.add_row(Text(one_line(file.path)), Text(f"{file.size:,}", justify="right"))
    return Group(facts, "", outputs, "", files)


def _facts(bundle: ModelBundle) -> Iterator[tuple[str, str]]:
    """Yields the name and value of each line; facts that a bundle lacks are left out."""
    manifest = bundle.manifest
    yield "name", manifest.name
    yield "task", f"{manifest.task} ({manifest.family})"
    yield "takes", _takes(manifest)
    yield "digest", f"sha256:{bundle.digest}"
    yield "place", str(bundle.path)
    yield "size", f"{sum(file.size for file in manifest.files) / 1e6:.1f} MB"
    yield (
        "max_tokens",
        "no limit" if manifest.max_tokens is None else f"{manifest.max_tokens}, special tokens counted",
    )
    yield "tokenizer", _tokenizer(manifest)
    yield "pooling", _pooling(manifest)
    yield from _use(manifest)
    if manifest.labels:
        yield "labels", f"{', '.join(manifest.labels)}{' (multi-label)' if manifest.multi_label else ''}"
    if manifest.task != "embed":
        yield "scores", _scores(manifest)
    if manifest.elmo:
        yield "elmo", f"layer weights {manifest.elmo.layer_weights}, gamma {manifest.elmo.gamma}"
    yield from _precisions(manifest)
    yield (
        "batches",
        "a text's result depends on its neighbours" if manifest.batch_dependent else "independent",
    )
    if manifest.custom_ops:
        yield "needs", f"operations of {', '.join(manifest.custom_ops)}"
    if manifest.allowed_ops:
        yield "asks for", _asks_for(manifest.allowed_ops)
    if manifest.zero_inputs:
        yield "zeros for", f"{', '.join(manifest.zero_inputs)}: no output depends on them"
    if not manifest.freeze:
        yield "weights", f"stay variables: {manifest.freeze_reason or 'as built'}"
    yield "licence", manifest.licence
    yield "source", _source(manifest)
    if manifest.source.compared_with is not None:
        yield "compared with", manifest.source.compared_with
    yield "built with", ", ".join(f"{name} {number}" for name, number in manifest.versions.items())


def _scores(manifest: BundleManifest) -> str:
    kind = f"{manifest.scores} of the output"
    if manifest.regression:
        return f"quantities, not classes{'' if manifest.scores == 'as_is' else f': {kind}'}"
    return kind


def _takes(manifest: BundleManifest) -> str:
    if manifest.task == "pairs":
        loses = "the longer one" if manifest.pair_truncation == "longest_first" else "the second"
        return f"two texts at a time; of pairs that are too long, {loses} loses tokens"
    return "numbers" if manifest.tokenizer.kind == "none" else "one text at a time"


def _use(manifest: BundleManifest) -> Iterator[tuple[str, str]]:
    """Yields what vectors are compared by, and the prompts of documents and queries."""
    if manifest.similarity is not None:
        yield "similarity", manifest.similarity
    if manifest.prompts:
        yield "prompts", "; ".join(f"{name}: {text!r}" for name, text in manifest.prompts.items())
        yield "default prompt", manifest.default_prompt or "none"
        yield "query prompt", manifest.query_prompt or "that of the documents"


def _asks_for(operations: Iterable[str]) -> str:
    """Describes operations beyond the list: whoever opens the bundle allows them, never the bundle."""
    listed = ",".join(operations)
    return (
        f"{listed}: operations with effects outside the model. That it was built with them allows nothing: "
        f"it is opened only with --allow_ops {listed}, or with a pinned digest"
    )


def _precisions(manifest: BundleManifest) -> Iterator[tuple[str, str]]:
    offered = ", ".join(p for p in Precision if manifest.signature_of(p) is not None)
    yield "precision", f"{offered} (no float weights)" if manifest.is_int8_only else offered
    if manifest.int8 is not None:
        for precision, quality in manifest.int8.quality.items():
            yield f"{precision} quality", describe_quality(quality)
        for precision, layers in manifest.int8.layers_in_float().items():
            yield f"{precision} leaves", f"{', '.join(layers) or 'nothing'} in float"


def _tokenizer(manifest: BundleManifest) -> str:
    spec = manifest.tokenizer
    if spec.kind == "text":
        return "in the graph"
    if spec.kind == "none":
        return "none: the model takes numbers only"
    if spec.kind == "words":
        return f"words, split by {spec.word_split}"
    casing = {True: "lower-cases", False: "cased", None: "casing set by its file"}[spec.lowercase]
    return f"subwords, {casing}"


def _pooling(manifest: BundleManifest) -> str:
    if manifest.task == "pairs":
        return "none: it gives scores, no vectors"
    kind = manifest.outputs[manifest.default_output].kind
    if kind == "class":
        return f"{manifest.pooling or 'mean (none stated)'}, for vectors of the layer below the classes"
    pooling = (
        str(manifest.pooling or "mean (none stated)") if kind == "token" else "none: one vector per text"
    )
    if manifest.sentence is not None:
        pooling = _sentence(manifest.sentence)
    return f"{pooling}, {'normalised to length 1' if manifest.normalize else 'not normalised'}"


def _sentence(spec: SentenceSpec) -> str:
    """Lists the steps of the graph, such as: mean and max, dense (tanh), first 64 numbers."""
    what = " and ".join(spec.poolings) + ("" if spec.include_prompt else " of what follows the prompt")
    steps = [f"{m.kind} ({m.activation})" if m.activation else m.kind for m in spec.modules]
    cut = [] if spec.truncate_dim is None else [f"first {spec.truncate_dim} numbers"]
    return ", ".join([what, *steps, *cut])


def _source(manifest: BundleManifest) -> str:
    source = manifest.source
    revision = f" at {source.revision}" if source.revision else ""
    return f"{source.location}{revision} ({source.kind}, {len(source.files)} files)"


def describe_quality(quality: PrecisionQuality | ClassQuality) -> str:
    """Returns the figures of a precision in one line."""
    if isinstance(quality, ClassQuality):
        return (
            f"same labels {quality.same_labels:.2%} (calibration texts "
            f"{quality.calibration_same_labels:.2%}), scores off by at most {quality.max_difference:.4f}, "
            f"{quality.num_rows} texts or tokens"
        )
    return (
        f"cosine {quality.mean_cosine:.4f} (lowest {quality.min_cosine:.4f}), rank correlation of "
        f"similarities {quality.rank_correlation:.4f} (calibration texts "
        f"{quality.calibration_rank_correlation:.4f}), same nearest neighbour {quality.same_nearest:.1%}, "
        f"{quality.num_texts} texts"
    )
