"""What an encoding step was asked to do, and the digest that says when two runs may share vectors."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from beam_jobs.errors import UsageError
from beam_jobs.pipeline.class_settings import ClassSettings
from model_bundle.bundle.bundle import ModelBundle
from model_bundle.bundle.manifest import Pooling, Precision, Rows, WordPieces, canonical_json
from model_bundle.inference.numeric_inputs import NumericInputs
from model_bundle.runtime.long_texts import DEFAULT_LONG_TEXTS, LongTexts
from model_bundle.runtime.request import EncodeRequest

VECTOR_DTYPES = ("float32", "float16")
# A buffer of words or windows: their vectors, and what a word takes in text, its space included; a token may
# take less.
_ROW_VECTOR_BYTES = 128_000_000
_BYTES_A_WORD = 5
_BYTES_A_TOKEN = 2
# Arrow counts the numbers of a list column in 32 bits.
MAX_NUMBERS = 2**31 - 1


@dataclass(frozen=True)
class EncodeSettings:
    """Everything an encoding step needs; made by ``resolve`` on the machine that submits.

    ``bundle`` is where workers find the bundle, pinned by ``bundle_digest``. A buffer of at most
    ``buffer_documents`` documents or ``buffer_bytes`` of text is sorted by length together; less where that
    would take longer than ``buffer_seconds``, since it is lost in a crash. ``dedupe``: equal
    texts are computed once. ``isolate_model``: the model is in a child of the worker, see
    ``IsolatedRuntime``. ``classes``: rows hold labels and scores instead of vectors. ``numeric_columns`` are
    the columns of the input that the model takes as numbers: ``ReadOptions`` must name them, too.
    ``allowed_ops`` are operations of the graph that reach beyond it, allowed by whoever submits.
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

    def __post_init__(self) -> None:
        """Refuses options that cannot be meant, or not together."""
        if self.vector_dtype not in VECTOR_DTYPES:
            raise UsageError(f"--vector_dtype {self.vector_dtype}: one of {', '.join(VECTOR_DTYPES)}.")
        if self.keep_text and self.no_text:
            raise UsageError(
                "--keep_text writes the input text, --no_text forbids it: leave one of them out."
            )
        if self.dedupe and self.numeric_columns:
            raise UsageError(
                f"--dedupe: the model takes the columns {list(self.numeric_columns)} beside the text, so "
                "equal texts need not have equal vectors. Leave it out."
            )
        for name in ("max_batch_tokens", "buffer_documents", "buffer_bytes"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"--{name} must be at least 1, not {value}.")
        if self.buffer_documents * max(self.dims, default=1) > MAX_NUMBERS:
            raise UsageError(
                f"--buffer_documents {self.buffer_documents}: at {max(self.dims)} dimensions at most "
                f"{MAX_NUMBERS // max(self.dims)}; more than the default gains little."
            )
        if self.num_threads is not None and self.num_threads < 1:
            raise UsageError(f"--num_threads must be at least 1, not {self.num_threads}.")

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
        rows: str = "document",
        long_texts: LongTexts = DEFAULT_LONG_TEXTS,
        word_pieces: str | None = None,
        allow_ops: tuple[str, ...] = (),
        **rest: Any,
    ) -> EncodeSettings:
        """Opens and checks a bundle, and fills from it what was not asked for.

        Raises:
            ModelBundleError: the bundle is damaged, or cannot do what was asked.
            UsageError: options that contradict each other.
        """
        opened = _opened(bundle, precision, allow_ops)
        request = EncodeRequest.resolve(
            opened,
            layers=layers,
            pooling=None if pooling is None else Pooling(pooling),
            max_tokens=max_tokens,
            prompt=prompt,
            prompt_text=prompt_text,
            precision=Precision(precision),
            rows=Rows(rows),
            long_texts=long_texts,
            word_pieces=None if word_pieces is None else WordPieces(word_pieces),
        )
        return cls._made(opened, bundle, request, **rest)

    @classmethod
    def resolve_classes(
        cls,
        bundle: str,
        *,
        top_k: int | None = None,
        threshold: float | None = None,
        keep_logits: bool = False,
        max_tokens: int | None = None,
        prompt: str | None = None,
        prompt_text: str | None = None,
        precision: str = "float32",
        long_texts: LongTexts = DEFAULT_LONG_TEXTS,
        allow_ops: tuple[str, ...] = (),
        **rest: Any,
    ) -> EncodeSettings:
        """The same for the labels and scores of a classifier.

        Raises:
            ModelBundleError: the bundle is damaged, or no classifier.
            UsageError: options that do not fit its labels.
        """
        opened = _opened(bundle, precision, allow_ops)
        request = EncodeRequest.resolve_classes(
            opened,
            max_tokens=max_tokens,
            prompt=prompt,
            prompt_text=prompt_text,
            precision=Precision(precision),
            long_texts=long_texts,
        )
        classes = ClassSettings.resolve(
            opened.manifest, top_k=top_k, threshold=threshold, keep_logits=keep_logits
        )
        return cls._made(opened, bundle, request, classes=classes, **rest)

    @classmethod
    def _made(cls, opened: ModelBundle, bundle: str, request: EncodeRequest, **rest: Any) -> EncodeSettings:
        place = bundle.split("@sha256:")[0]
        specs = [opened.spec(name) for name in request.outputs]
        return cls(
            # Workers look elsewhere for what is relative here, and cannot fetch by name.
            bundle=place if "://" in place else str(opened.path.resolve()),
            bundle_name=opened.manifest.name,
            bundle_digest=opened.digest,
            request=request,
            dims=tuple(spec.dim or 0 for spec in specs),
            layers=tuple(spec.layer or name for spec, name in zip(specs, request.outputs, strict=True)),
            numeric_columns=NumericInputs(opened.manifest.inputs).columns,
            allowed_ops=opened.allowed_ops,
            **rest,
        )

    def open_bundle(self) -> ModelBundle:
        """Opens the bundle that was resolved, on whichever machine."""
        return ModelBundle.open(f"{self.bundle}@sha256:{self.bundle_digest}", self.allowed_ops)

    @property
    def vector_columns(self) -> tuple[str, ...]:
        """One column is ``embedding``; several carry their layer's name. None where rows hold labels."""
        if self.classes is not None:
            return ()
        if len(self.layers) == 1:
            return ("embedding",)
        return tuple(f"embedding_{layer}" for layer in self.layers)

    @property
    def max_buffer_bytes(self) -> int:
        """Text that is sorted together; less where words or windows have vectors, which fill memory then."""
        num_rows = max(_ROW_VECTOR_BYTES // (4 * max(sum(self.dims), 1)), 1)
        if self.request.rows is Rows.WORD:
            return min(self.buffer_bytes, num_rows * _BYTES_A_WORD)
        if not self.request.long_texts.are_windows:
            return self.buffer_bytes
        # A window goes on by at least a token, and by all it holds but the overlap and the special tokens.
        step = max((self.request.max_tokens or 0) - (self.request.long_texts.window_overlap or 0) - 2, 1)
        return min(self.buffer_bytes, num_rows * step * _BYTES_A_TOKEN)

    @property
    def relevant(self) -> dict[str, Any]:
        """Everything beside the bundle that decides what comes of a text, as plain JSON data."""
        relevant = self.request.to_json() | {"vector_dtype": self.vector_dtype}
        if self.classes is not None:
            relevant |= {"classes": self.classes.to_json()}
        return relevant

    @property
    def digest(self) -> str:
        """Equal where vectors may be shared, given equal bundles and texts."""
        return hashlib.sha256(canonical_json(self.relevant)).hexdigest()

    def file_metadata(self) -> dict[str, str]:
        """What every file of a run says of its vectors."""
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


def _opened(bundle: str, precision: str, allow_ops: tuple[str, ...]) -> ModelBundle:
    """Opens and checks a bundle that must have a graph of this precision."""
    opened = ModelBundle.open(bundle, allow_ops)
    if precision == "bfloat16" and opened.manifest.bfloat16_signature is None:
        raise UsageError(
            f"--precision bfloat16: the bundle {opened.manifest.name} has no bfloat16 graph; use float32."
        )
    return opened
