"""``bundle.json``, the manifest of a model bundle."""

from __future__ import annotations

import json
import stat
from collections import Counter
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from model_bundle.base.untrusted.json_text import JsonError, parse_json
from model_bundle.errors import BundleFormatError

FORMAT_VERSION = 1
MANIFEST_NAME = "bundle.json"
SAVED_MODEL_DIR = "saved_model"
TOKENIZER_FILE = "tokenizer/tokenizer.json"
GOLDEN_NAME = "golden.npz"
# ELMo with and without boundaries: a bundle also has the variant it does not use, for comparisons.
BOUNDARY_SIGNATURES = {True: "tokens_surrounded", False: "tokens_bare"}
# The same with the LSTMs' state as input and output.
STATEFUL_SIGNATURE = "tokens_stateful"
# A manifest names files, not their content: a hundred thousand of them fit.
MAX_MANIFEST_BYTES = 16_000_000


class Pooling(StrEnum):
    """How the token states of a text become one vector."""

    MEAN = "mean"
    MAX = "max"
    FIRST = "first"
    LAST = "last"
    POOLER = "pooler"


class Precision(StrEnum):
    """The type of the matrix products; results are float32.

    ``int8_bfloat16`` is int8 with attention's own products in bfloat16 instead of float32; ``int7`` is int8
    with weights of 7 bits.
    """

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    INT8 = "int8"
    INT8_BFLOAT16 = "int8_bfloat16"
    INT7 = "int7"

    @property
    def is_integer(self) -> bool:
        """Whether products with weights are of integers."""
        return self in (Precision.INT8, Precision.INT8_BFLOAT16, Precision.INT7)


class WordPieces(StrEnum):
    """Which of a word's tokens its vector is computed from."""

    FIRST = "first"
    MEAN = "mean"


class Rows(StrEnum):
    """What one row of results stands for."""

    DOCUMENT = "document"
    WINDOW = "window"
    WORD = "word"


class _Part(BaseModel):
    """A frozen piece of the manifest; unknown fields are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class InputSpec(_Part):
    """One input of the signature.

    ``role``: what it is fed: ``ids``, ``mask``, ``types`` int[texts, tokens]; ``text`` string[texts];
    ``words`` string[texts, words]; ``lengths`` int[texts]; ``numeric`` float[texts, columns].
    ``length`` is set where the graph accepts only one number of tokens. ``rank`` is the number of axes.
    """

    role: Literal["ids", "mask", "types", "text", "words", "lengths", "numeric"]
    dtype: Literal["int32", "int64", "float32", "string"]
    length: int | None = Field(default=None, gt=0)
    columns: tuple[str, ...] = ()
    rank: int | None = None

    @property
    def num_axes(self) -> int:
        """``rank``, or what it is by role where a manifest does not give it."""
        return self.rank or {"text": 1, "lengths": 1}.get(self.role, 2)


class OutputSpec(_Part):
    """One output of the signature.

    ``kind``: ``token`` float[texts, tokens, dim], ``text`` float[texts, dim], ``class`` float[texts, dim] or
    float[texts, tokens, dim] (scores or logits), ``length`` int[texts].
    ``layer`` is its name for ``--layer``: a name for ELMo, a number from 0 (the embeddings) for BERT.
    ``per_token`` marks a ``class`` output that classifies each token instead of the text.
    """

    kind: Literal["token", "text", "class", "length"]
    dtype: Literal["float32", "int32"] = "float32"
    dim: int | None = Field(default=None, gt=0)
    layer: str | None = None
    per_token: bool = False


class TokenizerSpec(_Part):
    """How a text becomes the model's input.

    ``subwords``: ``tokenizer/tokenizer.json``, read by the tokenizers library. ``words``: split into words
    by ``word_split``. ``text``: the graph takes the string itself. ``none``: it takes numbers only.
    """

    kind: Literal["subwords", "words", "text", "none"]
    lowercase: bool | None = None
    pad_id: int = 0
    word_split: Literal["spaces", "unicode"] | None = None


class ElmoSpec(_Part):
    """ELMo's settings: boundary rows added before the LSTMs, final layer weights, gamma."""

    boundaries: bool
    layer_weights: tuple[float, ...]
    gamma: float


class PrecisionQuality(_Part):
    """What a precision costs, measured when the bundle was built, against float32.

    ``min_cosine``, ``mean_cosine``: of the vectors of ``num_texts`` held-out texts. ``rank_correlation``:
    Spearman's, of the similarities of all pairs of them; ``calibration_rank_correlation`` the same for the
    texts that scales were chosen with. ``same_nearest``: share of held-out texts whose nearest neighbour
    stays the same.
    """

    num_texts: int = Field(ge=2)
    min_cosine: float
    mean_cosine: float
    rank_correlation: float
    calibration_rank_correlation: float
    same_nearest: float


class ClassQuality(_Part):
    """The same for a classifier, whose rows are texts or tokens.

    ``same_labels``: share of rows with the same labels as in float32; ``calibration_same_labels`` for the
    texts that scales were chosen with. ``max_difference``: of a score.
    """

    num_rows: int = Field(ge=1)
    same_labels: float
    calibration_same_labels: float
    max_difference: float


class Int8Spec(_Part):
    """The int8 graph: its signature, the dense layers that stayed float, and what each precision costs.

    ``mixed_signature``: the same with attention in bfloat16. ``narrow_signature``: the same with weights of
    7 bits, for processors without VNNI. Any may be None.
    ``only``: the bundle has no float weights, and ``signature`` is that of the bundle, too.
    """

    signature: str | None = "serving_int8"
    mixed_signature: str | None = None
    narrow_signature: str | None = None
    float_layers: tuple[str, ...] = ()
    narrow_float_layers: tuple[str, ...] | None = None
    only: bool = False
    quality: dict[Precision, PrecisionQuality | ClassQuality]

    def layers_in_float(self) -> dict[Precision, tuple[str, ...]]:
        """Returns the dense layers that stayed float in each precision with integer products."""
        found = {} if self.signature is None else {Precision.INT8: self.float_layers}
        if self.mixed_signature is not None:
            found[Precision.INT8_BFLOAT16] = self.float_layers
        if self.narrow_signature is not None:
            found[Precision.INT7] = self.narrow_float_layers or ()
        return found


class SourceSpec(_Part):
    """Where a model came from. ``files`` maps each file that was read to its sha256.

    ``compared_with``: the stack that made the model, if it ran when the bundle was built and gave the same
    results; else "nothing" and the reason. None if there was no such step.
    """

    kind: str
    location: str
    revision: str | None = None
    files: dict[str, str] = Field(default_factory=dict)
    compared_with: str | None = None


class FileSpec(_Part):
    """One file of the bundle, by its path relative to ``bundle.json``."""

    path: str
    size: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class BundleManifest(_Part):
    """The checked content of ``bundle.json``.

    ``signature`` is the float32 one, or int8's if there is no other; ``bfloat16_signature`` exists where this
    package built the graph, and ``int8`` where it was quantized.
    ``max_tokens`` includes special tokens. ``prompts`` are prefixes of a document, by name.
    ``freeze``: whether weights may become constants (see the runtime), with the reason if not.
    ``custom_ops`` are packages whose operations the graph uses, imported before it is loaded.
    ``scores``: the function that turns a ``class`` output into scores, if any.
    ``regression``: the scores are quantities, of which none is chosen.
    ``allowed_ops`` are operations with effects outside the graph, allowed by name at build time.
    ``zero_inputs`` are inputs of the model that the graph gives zeros, because no output depends on them.
    """

    format_version: Literal[1] = 1
    name: str = Field(min_length=1)
    task: Literal["embed", "classify"]
    family: str
    signature: str = "serving_default"
    bfloat16_signature: str | None = None
    int8: Int8Spec | None = None
    inputs: dict[str, InputSpec]
    outputs: dict[str, OutputSpec]
    default_output: str
    tokenizer: TokenizerSpec
    max_tokens: int | None = Field(default=None, gt=0)
    pooling: Pooling | None = None
    normalize: bool = False
    prompts: dict[str, str] = Field(default_factory=dict)
    default_prompt: str | None = None
    labels: tuple[str, ...] = ()
    multi_label: bool = False
    regression: bool = False
    scores: Literal["as_is", "softmax", "sigmoid"] = "as_is"
    elmo: ElmoSpec | None = None
    min_batch: int = Field(default=1, ge=1)
    batch_dependent: bool = False
    freeze: bool = True
    freeze_reason: str | None = None
    custom_ops: tuple[Literal["tensorflow_text"], ...] = ()
    allowed_ops: tuple[str, ...] = ()
    zero_inputs: tuple[str, ...] = ()
    source: SourceSpec
    licence: str
    versions: dict[str, str] = Field(default_factory=dict)
    files: tuple[FileSpec, ...] = ()

    @model_validator(mode="after")
    def _names_agree(self) -> Self:
        if self.default_output not in self.outputs:
            raise ValueError(f"default_output {self.default_output!r} is not one of {sorted(self.outputs)}")
        if self.default_prompt is not None and self.default_prompt not in self.prompts:
            raise ValueError(f"default_prompt {self.default_prompt!r} is not one of {sorted(self.prompts)}")
        twice = [path for path, count in Counter(file.path for file in self.files).items() if count > 1]
        if twice:
            raise ValueError(f"files lists {', '.join(map(repr, twice))} more than once")
        return self

    def to_bytes(self) -> bytes:
        """Returns the canonical form: UTF-8 JSON, keys sorted, no spaces, one newline at the end."""
        data = self.model_dump(mode="json")
        # Added later: without them, bundles keep the bytes and digest that they had before.
        if self.int8 is None:
            del data["int8"]
        else:
            later = {
                "mixed_signature": None,
                "narrow_signature": None,
                "narrow_float_layers": None,
                "only": False,
            }
            for name in [name for name, default in later.items() if data["int8"][name] == default]:
                del data["int8"][name]
        if not self.zero_inputs:
            del data["zero_inputs"]
        if self.source.compared_with is None:
            del data["source"]["compared_with"]
        return canonical_json(data)

    @property
    def is_int8_only(self) -> bool:
        """Whether the bundle has int8 weights and no float ones."""
        return self.int8 is not None and self.int8.only

    def signature_of(self, precision: Precision) -> str | None:
        """Returns the name of the graph of a precision; None if the bundle has none."""
        spec = self.int8
        return {
            Precision.FLOAT32: None if self.is_int8_only else self.signature,
            Precision.BFLOAT16: self.bfloat16_signature,
            Precision.INT8: None if spec is None else spec.signature,
            Precision.INT8_BFLOAT16: None if spec is None else spec.mixed_signature,
            Precision.INT7: None if spec is None else spec.narrow_signature,
        }[precision]

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> Self:
        """Reads a manifest.

        Raises:
            BundleFormatError: not JSON, an unknown version, or an invalid field.
        """
        try:
            raw = parse_json(data, allow_nan=False)
        except JsonError as error:
            raise BundleFormatError(
                f"{where} is not JSON ({error}). The file is damaged; rebuild or copy the bundle again."
            ) from error
        version = raw.get("format_version") if isinstance(raw, dict) else None
        if version != FORMAT_VERSION:
            raise BundleFormatError(
                f"{where} has format version {version!r}; this release reads version {FORMAT_VERSION}. "
                "Install the release that wrote it, or rebuild the bundle."
            )
        try:
            return cls.model_validate(raw)
        except ValidationError as error:
            raise BundleFormatError(f"{where} does not describe a model bundle:\n{error}") from error

    @classmethod
    def read(cls, bundle_dir: Path) -> Self:
        """Reads ``bundle_dir/bundle.json``. Files are not checked here; see ``check_files``.

        Raises:
            BundleFormatError: it is missing, not a plain file, too large, or does not describe a bundle.
        """
        path = bundle_dir / MANIFEST_NAME
        try:
            found = path.lstat()
            if not stat.S_ISREG(found.st_mode) or found.st_size > MAX_MANIFEST_BYTES:
                raise BundleFormatError(
                    f"{path} is a link or special file, or larger than {MAX_MANIFEST_BYTES} bytes; expected "
                    "a plain file as this package writes it. It was not read."
                )
            data = path.read_bytes()
        except (FileNotFoundError, NotADirectoryError) as error:
            raise BundleFormatError(
                f"{bundle_dir} is not a model bundle: it has no {MANIFEST_NAME}. "
                "Build one with: python -m model_bundle build"
            ) from error
        return cls.from_bytes(data, str(path))


def canonical_json(data: Any) -> bytes:
    """Returns the same bytes for equal data: sorted keys, no spaces, UTF-8, a final newline."""
    text = json.dumps(data, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return (text + "\n").encode("utf-8")
