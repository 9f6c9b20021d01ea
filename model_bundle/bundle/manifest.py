"""``bundle.json``, the manifest of a model bundle."""

from __future__ import annotations

import json
import stat
from collections import Counter
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from model_bundle.base.untrusted.json_text import JsonError, parse_json
from model_bundle.bundle.specs import (
    ElmoSpec,
    FileSpec,
    InputSpec,
    Int8Spec,
    OutputSpec,
    PairTruncation,
    Part,
    Pooling,
    Precision,
    SentenceSpec,
    Similarity,
    SourceSpec,
    TokenizerSpec,
)
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
QUERY_PROMPT = "query"
# A manifest names files, not their content: a hundred thousand of them fit.
MAX_MANIFEST_BYTES = 16_000_000


class BundleManifest(Part):
    """The checked content of ``bundle.json``.

    ``signature`` is the float32 one, or int8's if there is no other; ``bfloat16_signature`` exists where this
    package built the graph, and ``int8`` where it was quantized.
    ``max_tokens`` includes special tokens. ``prompts`` are prefixes of a document, by name.
    ``freeze``: whether weights may become constants (see the runtime), with the reason if not.
    ``custom_ops`` are packages whose operations the graph uses, imported before it is loaded.
    ``scores``: the function that turns a ``class`` output into scores, if any.
    ``task`` ``pairs``: scores of two texts together; ``pair_truncation``: which of them loses tokens.
    ``regression``: the scores are quantities, of which none is chosen.
    ``allowed_ops`` are operations with effects outside the graph, allowed by name at build time.
    ``zero_inputs`` are inputs of the model that the graph gives zeros, because no output depends on them.
    ``sentence``: how the graph makes ``sentence_embedding``, if it does. ``similarity``: how the model's
    vectors are meant to be compared, if its source states it.
    """

    format_version: Literal[1] = 1
    name: str = Field(min_length=1)
    task: Literal["embed", "classify", "pairs"]
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
    sentence: SentenceSpec | None = None
    similarity: Similarity | None = None
    pair_truncation: PairTruncation | None = None
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
        if (self.task == "pairs") != (self.pair_truncation is not None):
            raise ValueError("pair_truncation belongs to the task pairs, and to no other")
        if self.task == "pairs" and self.tokenizer.kind != "subwords":
            raise ValueError(f"the task pairs needs a tokenizer of subwords, not {self.tokenizer.kind}")
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
        for name in ("zero_inputs", "pair_truncation", "sentence", "similarity"):
            if not data[name]:
                del data[name]
        if self.source.compared_with is None:
            del data["source"]["compared_with"]
        return canonical_json(data)

    @property
    def is_int8_only(self) -> bool:
        """Whether the bundle has int8 weights and no float ones."""
        return self.int8 is not None and self.int8.only

    @property
    def query_prompt(self) -> str | None:
        """The name of the prompt meant for queries; None if queries get that of documents.

        Source: ``encode_query`` of sentence-transformers.
        """
        return QUERY_PROMPT if QUERY_PROMPT in self.prompts else None

    def signature_of(self, precision: Precision) -> str | None:
        """Returns the name of the graph of a precision; None if the bundle has none."""
        if precision.is_integer:
            return None if self.int8 is None else self.int8.signature_of(precision)
        if precision is Precision.BFLOAT16:
            return self.bfloat16_signature
        return None if self.is_int8_only else self.signature

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
