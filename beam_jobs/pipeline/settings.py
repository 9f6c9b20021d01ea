"""Settings of the encoding step, and the digest that decides whether two runs may share vectors."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from beam_jobs.base.config import check_model_choices
from beam_jobs.errors import UsageError
from beam_jobs.pipeline.class_settings import ClassSettings
from model_bundle.bundle.bundle import ModelBundle
from model_bundle.bundle.manifest import canonical_json
from model_bundle.bundle.specs import Pooling, Precision, Rows, WordPieces
from model_bundle.inference.numeric_inputs import NumericInputs
from model_bundle.inference.precision import AUTO, DEFAULT_MAX_LOSS, choose_precision, fast_precisions
from model_bundle.inference.speedups import known_seconds
from model_bundle.inference.text_encoder import request_input
from model_bundle.runtime.long_texts import DEFAULT_LONG_TEXTS, LongTexts
from model_bundle.runtime.request import EncodeRequest
from model_bundle.text import as_taken
from model_bundle.text.unknown import unknown_tokens

VECTOR_DTYPES = ("float32", "float16")
# Vectors of one buffer of words or windows; bytes of text per word, space included, and per token.
_ROW_VECTOR_BYTES = 128_000_000
_BYTES_PER_WORD = 5
_BYTES_PER_TOKEN = 2
# Arrow list columns have 32-bit offsets.
MAX_NUMBERS = 2**31 - 1


@dataclass(frozen=True)
class EncodeSettings:
    """All settings of the encoding step; created by ``resolve`` on the submitting machine.

    ``bundle`` is where workers find the bundle, pinned by ``bundle_digest``. A buffer of at most
    ``buffer_documents`` documents or ``buffer_bytes`` of text is sorted by length; less if computing it would
    take longer than ``buffer_seconds``, because it is lost in a crash. ``dedupe``: equal texts are computed
    once. ``isolate_model``: the model runs in a child process of the worker, see ``IsolatedRuntime``.
    ``classes``: rows hold labels and scores instead of vectors. ``numeric_columns`` are the input columns
    that are numeric model inputs: ``ReadOptions`` must name them, too. ``allowed_ops`` are operations of the
    graph that reach beyond it, allowed by whoever submits. Texts with a larger fraction of unknown tokens
    than ``max_unknown_fraction`` become dead letters; None allows all. ``takes_pairs``: the model scores two
    texts together: ``ReadOptions`` must name the columns of both.
    """

    bundle: str
    bundle_name: str
    bundle_digest: str
    request: EncodeRequest
    dims: tuple[int, ...]
    layers: tuple[str, ...]
    vector_dtype: str = "float32"
    keep_text: bool = False
    no_text: bool = False
    max_batch_tokens: int | None = None
    buffer_documents: int = 4096
    buffer_bytes: int = 16_000_000
    buffer_seconds: float = 30.0
    dedupe: bool = False
    num_threads: int | None = None
    isolate_model: bool = False
    classes: ClassSettings | None = None
    numeric_columns: tuple[str, ...] = ()
    allowed_ops: tuple[str, ...] = ()
    max_unknown_fraction: float | None = None
    takes_pairs: bool = False

    def __post_init__(self) -> None:
        """Rejects invalid option values and combinations."""
        if self.vector_dtype not in VECTOR_DTYPES:
            raise UsageError(
                f"--vector_dtype {self.vector_dtype}: expected one of {', '.join(VECTOR_DTYPES)}."
            )
        check_model_choices(self)
        if self.dedupe and self.numeric_columns:
            raise UsageError(
                f"--dedupe: the model also takes the columns {list(self.numeric_columns)}, so equal texts "
                "may have different vectors. Leave it out."
            )
        if self.buffer_bytes < 1:
            raise UsageError(f"--buffer_bytes must be at least 1, not {self.buffer_bytes}.")
        if self.buffer_documents * max(self.dims, default=1) > MAX_NUMBERS:
            raise UsageError(
                f"--buffer_documents {self.buffer_documents}: at {max(self.dims)} dimensions at most "
                f"{MAX_NUMBERS // max(self.dims)}; more than the default gains little."
            )

    @classmethod
    def resolve(
        cls,
        bundle: str,
        *,
        layers: tuple[str, ...] = (),
        pooling: str | None = None,
        max_tokens: int | None = None,
        prompt: str | None = None,
        prompt_text: str | None = None,
        precision: str = "float32",
        max_quality_loss: float = DEFAULT_MAX_LOSS,
        rows: str = "document",
        long_texts: LongTexts = DEFAULT_LONG_TEXTS,
        word_pieces: str | None = None,
        allow_ops: tuple[str, ...] = (),
        **rest: Any,
    ) -> EncodeSettings:
        """Opens and checks a bundle, and takes from it the settings that are not given.

        Raises:
            ModelBundleError: the bundle is damaged, or does not support the settings.
            UsageError: contradictory options.
        """
        opened = ModelBundle.open(bundle, allow_ops)
        request = EncodeRequest.resolve(
            opened,
            layers=layers,
            pooling=None if pooling is None else Pooling(pooling),
            max_tokens=max_tokens,
            prompt=prompt,
            prompt_text=prompt_text,
            precision=_precision(opened, precision, max_quality_loss),
            rows=Rows(rows),
            long_texts=long_texts,
            word_pieces=None if word_pieces is None else WordPieces(word_pieces),
        )
        return cls._create(opened, bundle, request, **rest)

    @classmethod
    def resolve_classes(
        cls,
        bundle: str,
        *,
        top_k: int | None = None,
        threshold: float | None = None,
        keep_logits: bool = False,
        gold: str | None = None,
        max_tokens: int | None = None,
        prompt: str | None = None,
        prompt_text: str | None = None,
        precision: str = "float32",
        max_quality_loss: float = DEFAULT_MAX_LOSS,
        rows: str = "document",
        long_texts: LongTexts = DEFAULT_LONG_TEXTS,
        allow_ops: tuple[str, ...] = (),
        **rest: Any,
    ) -> EncodeSettings:
        """Does the same as ``resolve`` for the labels and scores of a classifier.

        Raises:
            ModelBundleError: the bundle is damaged or is not a classifier.
            UsageError: an option does not fit the labels.
        """
        opened = ModelBundle.open(bundle, allow_ops)
        request = EncodeRequest.resolve_classes(
            opened,
            max_tokens=max_tokens,
            prompt=prompt,
            prompt_text=prompt_text,
            precision=_precision(opened, precision, max_quality_loss),
            rows=Rows(rows),
            long_texts=long_texts,
        )
        classes = ClassSettings.resolve(
            opened.manifest, top_k=top_k, threshold=threshold, keep_logits=keep_logits, gold=gold
        )
        return cls._create(opened, bundle, request, classes=classes, **rest)

    @classmethod
    def _create(cls, opened: ModelBundle, bundle: str, request: EncodeRequest, **rest: Any) -> EncodeSettings:
        if rest.get("max_unknown_fraction") is not None:
            _check_counts_unknown(opened, request)
        place = bundle.split("@sha256:")[0]
        specs = [opened.spec(name) for name in request.outputs]
        return cls(
            # Workers cannot resolve relative paths or names.
            bundle=place if "://" in place else str(opened.path.resolve()),
            bundle_name=opened.manifest.name,
            bundle_digest=opened.digest,
            request=request,
            dims=tuple(spec.dim or 0 for spec in specs),
            layers=tuple(spec.layer or name for spec, name in zip(specs, request.outputs, strict=True)),
            numeric_columns=NumericInputs(opened.manifest.inputs).columns,
            allowed_ops=opened.allowed_ops,
            takes_pairs=opened.manifest.task == "pairs",
            **rest,
        )

    def open_bundle(self) -> ModelBundle:
        """Opens the bundle that was resolved, on whichever machine."""
        return ModelBundle.open(f"{self.bundle}@sha256:{self.bundle_digest}", self.allowed_ops)

    @property
    def vector_columns(self) -> tuple[str, ...]:
        """``embedding`` for one layer, ``embedding_LAYER`` for several; empty if rows hold labels."""
        if self.classes is not None:
            return ()
        if len(self.layers) == 1:
            return ("embedding",)
        return tuple(f"embedding_{layer}" for layer in self.layers)

    @property
    def max_buffer_bytes(self) -> int:
        """Maximum text per buffer; less if each word or window has a vector, because these fill memory."""
        num_rows = max(_ROW_VECTOR_BYTES // (4 * max(sum(self.dims), 1)), 1)
        if self.request.rows is Rows.WORD:
            return min(self.buffer_bytes, num_rows * _BYTES_PER_WORD)
        if not self.request.long_texts.are_windows:
            return self.buffer_bytes
        long_texts, limit = self.request.long_texts, self.request.max_tokens or 0
        # A window advances by all its tokens except the overlap and special tokens, and by at least one.
        # One that ends after a sentence or paragraph may be half full, and share half of that.
        step = limit - (long_texts.window_overlap or 0) if long_texts.windows_at is None else limit // 4
        step = max(step - 2, 1)
        return min(self.buffer_bytes, num_rows * step * _BYTES_PER_TOKEN)

    @property
    def relevant(self) -> dict[str, Any]:
        """All settings besides the bundle that determine the result for a text, as JSON data."""
        relevant = self.request.to_json() | {"vector_dtype": self.vector_dtype}
        if self.classes is not None:
            relevant |= {"classes": self.classes.to_json()}
        if self.max_unknown_fraction is not None:  # else as in runs of older releases
            relevant |= {"max_unknown_fraction": self.max_unknown_fraction}
        return relevant

    @property
    def digest(self) -> str:
        """A digest of ``relevant``: vectors of equal texts and bundles may be shared if it is equal."""
        return hashlib.sha256(canonical_json(self.relevant)).hexdigest()

    def file_metadata(self) -> dict[str, str]:
        """Returns the metadata of every file of a run."""
        request = self.request
        own = {} if self.classes is None else self.classes.file_metadata()
        return (
            own
            | {
                "beam_jobs.bundle": self.bundle_name,
                "beam_jobs.bundle_digest": self.bundle_digest,
                "beam_jobs.settings_digest": self.digest,
                "beam_jobs.dimension": ",".join(map(str, self.dims)),
                "beam_jobs.layer": ",".join(self.layers),
                "beam_jobs.pooling": str(request.pooling or "none"),
                "beam_jobs.normalized": str(request.normalize).lower(),
                "beam_jobs.precision": str(request.precision),
                "beam_jobs.rows": str(request.rows),
                "beam_jobs.word_pieces": str(request.word_pieces or "none"),
                "beam_jobs.max_tokens": "none" if request.max_tokens is None else str(request.max_tokens),
            }
            | request.long_texts.to_text("beam_jobs.")
        )


def _check_counts_unknown(opened: ModelBundle, request: EncodeRequest) -> None:
    """Rejects ``--max_unknown_fraction`` for a model without an unknown token, or whose graph tokenizes.

    Raises:
        UsageError: it is one.
    """
    if unknown_tokens(request_input(opened, request).prepare(as_taken(opened.manifest, ["a"]))) is None:
        raise UsageError(
            f"--max_unknown_fraction: the bundle {opened.manifest.name} has no unknown tokens that could "
            "be counted: its vocabulary is of characters or bytes, or its graph tokenizes. Leave it out."
        )


def _precision(opened: ModelBundle, precision: str, max_quality_loss: float) -> Precision:
    """Returns the precision asked for, which the bundle must have; ``auto`` is decided here, for all workers.

    The processor that decides is that of the submitting machine: workers are expected to be no worse.
    """
    if precision == AUTO:
        return choose_precision(
            opened.manifest,
            max_quality_loss,
            fast_precisions(),
            known_seconds(opened),
        )
    if precision == "bfloat16" and opened.manifest.bfloat16_signature is None:
        raise UsageError(
            f"--precision bfloat16: the bundle {opened.manifest.name} has no bfloat16 graph; use float32."
        )
    return Precision(precision)
