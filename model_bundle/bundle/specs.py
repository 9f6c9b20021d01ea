"""The parts of a bundle's manifest: what its inputs, outputs, tokenizer and precisions are."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Pooling(StrEnum):
    """How the token states of a text become one vector.

    ``mean_sqrt_len`` divides the sum by the square root of the number of tokens; ``weighted_mean`` gives the
    first token the weight 1, the next 2, and so on.
    """

    MEAN = "mean"
    MAX = "max"
    FIRST = "first"
    LAST = "last"
    MEAN_SQRT_LEN = "mean_sqrt_len"
    WEIGHTED_MEAN = "weighted_mean"
    POOLER = "pooler"


class Similarity(StrEnum):
    """How vectors are compared: more is nearer, so distances are negative."""

    COSINE = "cosine"
    DOT = "dot"
    EUCLIDEAN = "euclidean"
    MANHATTAN = "manhattan"


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


# Which of two texts loses tokens if both together are too long: the longer one, or the second.
PairTruncation = Literal["longest_first", "only_second"]


class Part(BaseModel):
    """A frozen piece of the manifest; unknown fields are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class InputSpec(Part):
    """One input of the signature.

    ``role``: what it is fed: ``ids``, ``mask``, ``types`` int[texts, tokens]; ``text`` string[texts];
    ``words`` string[texts, words]; ``lengths`` int[texts]; ``skipped`` int[texts], how many tokens at the
    start (the prompt) are not pooled; ``numeric`` float[texts, columns].
    ``length`` is set where the graph accepts only one number of tokens. ``rank`` is the number of axes.
    """

    role: Literal["ids", "mask", "types", "text", "words", "lengths", "skipped", "numeric"]
    dtype: Literal["int32", "int64", "float32", "string"]
    length: int | None = Field(default=None, gt=0)
    columns: tuple[str, ...] = ()
    rank: int | None = None

    @property
    def num_axes(self) -> int:
        """``rank``, or what it is by role where a manifest does not give it."""
        return self.rank or {"text": 1, "lengths": 1, "skipped": 1}.get(self.role, 2)


class OutputSpec(Part):
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


class TokenizerSpec(Part):
    """How a text becomes the model's input.

    ``subwords``: ``tokenizer/tokenizer.json``, read by the tokenizers library. ``words``: split into words
    by ``word_split``. ``text``: the graph takes the string itself. ``none``: it takes numbers only.
    """

    kind: Literal["subwords", "words", "text", "none"]
    lowercase: bool | None = None
    pad_id: int = 0
    word_split: Literal["spaces", "unicode"] | None = None


class ElmoSpec(Part):
    """ELMo's settings: boundary rows added before the LSTMs, final layer weights, gamma."""

    boundaries: bool
    layer_weights: tuple[float, ...]
    gamma: float


class ModuleSpec(Part):
    """One step from pooled states to a text's vector; ``activation`` is that of a ``dense`` one."""

    kind: Literal["dense", "layer_norm", "normalize"]
    activation: str | None = None


class SentenceSpec(Part):
    """How the graph itself computes the output ``sentence_embedding`` from the states of the last layer.

    ``poolings`` are joined in this order. ``include_prompt``: whether tokens of the prompt are pooled, too.
    ``truncate_dim``: only the first so many numbers are kept, after all modules.
    """

    poolings: tuple[Pooling, ...] = Field(min_length=1)
    include_prompt: bool = True
    modules: tuple[ModuleSpec, ...] = ()
    truncate_dim: int | None = Field(default=None, gt=0)


class PrecisionQuality(Part):
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


class ClassQuality(Part):
    """The same for a classifier, whose rows are texts or tokens.

    ``same_labels``: share of rows with the same labels as in float32; ``calibration_same_labels`` for the
    texts that scales were chosen with. ``max_difference``: of a score.
    """

    num_rows: int = Field(ge=1)
    same_labels: float
    calibration_same_labels: float
    max_difference: float


class Int8Spec(Part):
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

    def signature_of(self, precision: Precision) -> str | None:
        """Returns the name of the graph of a precision with integer products; None if there is none."""
        return {
            Precision.INT8: self.signature,
            Precision.INT8_BFLOAT16: self.mixed_signature,
            Precision.INT7: self.narrow_signature,
        }.get(precision)

    def layers_in_float(self) -> dict[Precision, tuple[str, ...]]:
        """Returns the dense layers that stayed float in each precision with integer products."""
        found = {} if self.signature is None else {Precision.INT8: self.float_layers}
        if self.mixed_signature is not None:
            found[Precision.INT8_BFLOAT16] = self.float_layers
        if self.narrow_signature is not None:
            found[Precision.INT7] = self.narrow_float_layers or ()
        return found


class SourceSpec(Part):
    """Where a model came from. ``files`` maps each file that was read to its sha256.

    ``compared_with``: the stack that made the model, if it ran when the bundle was built and gave the same
    results; else "nothing" and the reason. None if there was no such step.
    """

    kind: str
    location: str
    revision: str | None = None
    files: dict[str, str] = Field(default_factory=dict)
    compared_with: str | None = None


class FileSpec(Part):
    """One file of the bundle, by its path relative to ``bundle.json``."""

    path: str
    size: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
