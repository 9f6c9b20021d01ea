"""The outputs, pooling, limits and precision that a job requests of a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from model_bundle.bundle.bundle import ModelBundle
from model_bundle.bundle.manifest import BundleManifest
from model_bundle.bundle.specs import Pooling, Precision, Rows, WordPieces
from model_bundle.errors import SettingsError
from model_bundle.runtime.long_texts import DEFAULT_LONG_TEXTS, TRUNCATE, Combine, LongTexts


@dataclass(frozen=True)
class EncodeRequest:
    """Settings that determine vectors; two runs may share vectors only if these are equal.

    ``outputs`` are signature outputs. ``pooling`` is None if every output already is one vector per text.
    ``max_tokens`` includes special tokens; None means no limit. ``prompt`` is the prefix of every text.
    ``word_pieces`` is set where rows are words of several tokens.
    """

    outputs: tuple[str, ...]
    pooling: Pooling | None
    normalize: bool
    max_tokens: int | None
    prompt: str
    precision: Precision
    rows: Rows = Rows.DOCUMENT
    long_texts: LongTexts = TRUNCATE
    word_pieces: WordPieces | None = None

    @classmethod
    def resolve(
        cls,
        bundle: ModelBundle,
        *,
        layers: tuple[str, ...] = (),
        pooling: Pooling | None = None,
        normalize: bool | None = None,
        max_tokens: int | None = None,
        prompt: str | None = None,
        prompt_text: str | None = None,
        precision: Precision = Precision.FLOAT32,
        rows: Rows = Rows.DOCUMENT,
        long_texts: LongTexts = DEFAULT_LONG_TEXTS,
        word_pieces: WordPieces | None = None,
    ) -> Self:
        """Fills in defaults from the bundle and rejects what the bundle cannot do.

        Args:
            layers: the bundle's layer names; empty means its default output.
            pooling: None means the bundle's own, or ``mean``.
            normalize: to length 1; None means the bundle's setting for its default output and pooling.
            max_tokens: at most the limit that the model was built for.
            prompt: the name of one of the bundle's prompts.
            prompt_text: a custom prompt.
            rows: one vector per document, per window of a long one, or per word if the bundle's tokens are
                words or pieces of words.
            long_texts: how texts over the limit are handled.
            word_pieces: how a word of several tokens gets its vector; None means the mean.

        Raises:
            SettingsError: names the option, what the bundle offers and what to do.
        """
        manifest = bundle.manifest
        if manifest.task == "pairs":
            raise SettingsError(
                f"The bundle {manifest.name} scores two texts together and gives no vectors. For scores use "
                "python -m beam_jobs.classify with --text_pair_column, or Classifier.score."
            )
        check_precision(manifest, precision)
        outputs = tuple(dict.fromkeys(bundle.output_for(layer) for layer in layers or (None,)))
        if rows is Rows.WORD:
            outputs, chosen = _check_word_rows(bundle, outputs, pooling, normalize), None
        else:
            outputs, chosen = _resolve_pooling(bundle, outputs, pooling)
        as_built = outputs == (bundle.vector_output,) and chosen in (None, manifest.pooling)
        as_built = as_built and rows is not Rows.WORD
        limit, before = _resolve_max_tokens(bundle, max_tokens), _resolve_prompt(bundle, prompt, prompt_text)
        _check_pooled_prompt(bundle, limit, before)
        return cls(
            outputs=outputs,
            pooling=chosen,
            normalize=(manifest.normalize and as_built) if normalize is None else normalize,
            max_tokens=limit,
            prompt=before,
            precision=Precision(precision),
            rows=rows,
            long_texts=long_texts.resolve(bundle, rows, limit, before),
            word_pieces=_resolve_word_pieces(bundle, rows, word_pieces),
        )

    @classmethod
    def resolve_classes(
        cls,
        bundle: ModelBundle,
        *,
        max_tokens: int | None = None,
        prompt: str | None = None,
        prompt_text: str | None = None,
        precision: Precision = Precision.FLOAT32,
        rows: Rows = Rows.DOCUMENT,
        long_texts: LongTexts = DEFAULT_LONG_TEXTS,
    ) -> Self:
        """Does the same for a classifier: its raw scores, one row per document or per word.

        Args:
            rows: with a bundle for pairs also windows of the second text; others determine it themselves.

        Raises:
            SettingsError: the bundle is not a classifier, or an option does not fit it.
        """
        manifest = bundle.manifest
        check_precision(manifest, Precision(precision))
        spec = bundle.spec(manifest.default_output)
        if manifest.task == "embed" or spec.kind != "class":
            raise SettingsError(
                f"The bundle {manifest.name} gives vectors, not classes. For vectors use python -m "
                "beam_jobs.embed; a classifier is built with --task classify."
            )
        if manifest.task == "pairs":
            _check_no_prompt(manifest, prompt, prompt_text)
        elif rows is not Rows.DOCUMENT:
            raise SettingsError(
                f"--rows {rows}: a classifier has a row per text, or per word if it classifies tokens; "
                "windows need a bundle for pairs. Leave it out."
            )
        rows = Rows.WORD if spec.per_token else rows
        if manifest.task == "pairs" and rows is Rows.WORD:
            raise SettingsError("--rows word: the scores of a pair are not those of words. Leave it out.")
        if rows is Rows.WORD and manifest.tokenizer.kind not in ("words", "subwords"):
            raise SettingsError(
                f"The bundle {manifest.name} classifies tokens produced inside its graph, so scores cannot "
                "be assigned to words. Rebuild it with --tokenizer or with a text-level output."
            )
        limit, before = _resolve_max_tokens(bundle, max_tokens), _resolve_prompt(bundle, prompt, prompt_text)
        return cls(
            outputs=(manifest.default_output,),
            pooling=None,
            normalize=False,
            max_tokens=limit,
            prompt=before,
            precision=Precision(precision),
            rows=rows,
            long_texts=long_texts.resolve(
                bundle,
                rows,
                limit,
                before,
                is_judged=rows is Rows.DOCUMENT and manifest.task != "pairs",
                best=_best_window(manifest) if manifest.task == "pairs" else None,
            ),
            # Such models are trained to label a word at its first token.
            word_pieces=WordPieces.FIRST if rows is Rows.WORD else None,
        )

    def to_json(self) -> dict[str, Any]:
        """Returns the settings as plain JSON data, for digests and manifests."""
        return asdict(self) | {"long_texts": self.long_texts.to_json()}

    @classmethod
    def from_json(cls, settings: Mapping[str, Any]) -> Self:
        """Reads the result of ``to_json``; unknown keys are ignored.

        Raises:
            KeyError, TypeError, ValueError: it is incomplete, or of another release.
        """
        known = {field.name: settings[field.name] for field in fields(cls)}
        pooling, pieces = known["pooling"], known["word_pieces"]
        known |= {
            "outputs": tuple(known["outputs"]),
            "pooling": None if pooling is None else Pooling(pooling),
            "precision": Precision(known["precision"]),
            "rows": Rows(known["rows"]),
            "long_texts": LongTexts.from_json(known["long_texts"]),
            "word_pieces": None if pieces is None else WordPieces(pieces),
        }
        return cls(**known)


def _resolve_pooling(
    bundle: ModelBundle, outputs: tuple[str, ...], pooling: Pooling | None
) -> tuple[tuple[str, ...], Pooling | None]:
    kinds = {bundle.spec(name).kind for name in outputs}
    if pooling is Pooling.POOLER:
        if "pooler" not in bundle.manifest.outputs:
            raise SettingsError(
                f"--pooling pooler: the bundle {bundle.manifest.name} has no pooler; "
                "use mean, max, first or last."
            )
        if outputs != (bundle.vector_output,):
            raise SettingsError("--pooling pooler reads the last layer only: leave --layer out.")
        return ("pooler",), None
    if kinds == {"token"}:
        chosen = pooling or bundle.manifest.pooling or Pooling.MEAN
        if chosen is not Pooling.POOLER:
            return outputs, chosen
        # A pooler reads the last layer; requesting another layer implies another pooling.
        return (("pooler",), None) if outputs == (bundle.vector_output,) else (outputs, Pooling.MEAN)
    if "token" in kinds:
        raise SettingsError(
            f"--layer: {', '.join(outputs)} mix vectors per token and per text; request them separately."
        )
    if pooling is not None:
        raise SettingsError(
            f"--pooling {pooling}: {', '.join(outputs)} is one vector per text; leave --pooling out."
        )
    return outputs, None


def _check_word_rows(
    bundle: ModelBundle, outputs: tuple[str, ...], pooling: Pooling | None, normalize: bool | None
) -> tuple[str, ...]:
    manifest = bundle.manifest
    if manifest.tokenizer.kind not in ("words", "subwords"):
        raise SettingsError(
            "--rows word needs a bundle whose tokens are words or pieces of words; "
            f"{manifest.name} tokenizes inside its graph. Use --rows document."
        )
    if normalize and manifest.tokenizer.kind == "subwords":
        raise SettingsError(
            "normalize with --rows word: a word is the mean of its pieces; normalize the vectors afterwards."
        )
    if pooling is not None:
        raise SettingsError("--rows word writes each word's own vector: leave --pooling out.")
    pooled = [name for name in outputs if bundle.spec(name).kind != "token"]
    if pooled:
        raise SettingsError(f"--rows word: {', '.join(pooled)} is one vector per text; name another --layer.")
    return outputs


def _resolve_word_pieces(
    bundle: ModelBundle, rows: Rows, word_pieces: WordPieces | None
) -> WordPieces | None:
    if rows is Rows.WORD and bundle.manifest.tokenizer.kind == "subwords":
        return word_pieces or WordPieces.MEAN
    if word_pieces is not None:
        raise SettingsError(
            f"--word_pieces {word_pieces} is for --rows word with a bundle whose words have several tokens. "
            "Leave it out."
        )
    return None


def _resolve_max_tokens(bundle: ModelBundle, max_tokens: int | None) -> int | None:
    limit = bundle.manifest.max_tokens
    if max_tokens is None:
        return limit
    if bundle.manifest.tokenizer.kind not in ("words", "subwords"):
        raise SettingsError(
            f"--max_tokens {max_tokens}: {bundle.manifest.name} tokenizes inside its graph, with a limit of "
            "its own. Leave it out."
        )
    if max_tokens < 3:
        raise SettingsError(f"--max_tokens {max_tokens}: expected at least 3, since special tokens count.")
    if limit is not None and max_tokens > limit:
        raise SettingsError(
            f"--max_tokens {max_tokens}: the bundle {bundle.manifest.name} takes at most {limit}."
        )
    return max_tokens


def _resolve_prompt(bundle: ModelBundle, prompt: str | None, prompt_text: str | None) -> str:
    prompts = bundle.manifest.prompts
    if prompt is not None and prompt_text is not None:
        raise SettingsError(
            "--prompt names a prompt of the bundle, --prompt_text is a custom one: use only one of them."
        )
    if prompt_text is not None:
        return prompt_text
    if prompt is None:
        prompt = bundle.manifest.default_prompt
    if prompt is None:
        return ""
    if prompt not in prompts:
        known = ", ".join(sorted(prompts)) or "none"
        raise SettingsError(
            f"--prompt {prompt}: the bundle {bundle.manifest.name} has these prompts: {known}. "
            "Use --prompt_text for a prompt of your own."
        )
    return prompts[prompt]


def _check_no_prompt(manifest: BundleManifest, prompt: str | None, prompt_text: str | None) -> None:
    if prompt is not None or prompt_text is not None:
        raise SettingsError(
            f"--prompt, --prompt_text: the bundle {manifest.name} scores two texts as they are. Leave it "
            "out, or put the words into the texts."
        )


def _best_window(manifest: BundleManifest) -> Combine:
    """Returns how scores of windows combine: by label, except where labels exclude each other."""
    one = manifest.outputs[manifest.default_output].dim == 1
    return Combine.MAX if one or manifest.multi_label or manifest.regression else Combine.BEST


def _check_pooled_prompt(bundle: ModelBundle, limit: int | None, prompt: str) -> None:
    """Builds the input of a model that pools what follows the prompt, which checks that something can."""
    from model_bundle.text import text_input

    if any(spec.role == "skipped" for spec in bundle.manifest.inputs.values()):
        text_input(bundle.path, bundle.manifest, limit, prompt)


def check_precision(manifest: BundleManifest, precision: Precision) -> None:
    """Rejects int8 and int7 for a bundle that was not quantized, and others where it has no float weights.

    Raises:
        SettingsError: says how to get a bundle that has the precision.
    """
    if manifest.is_int8_only and precision not in (Precision.INT8, Precision.INT8_BFLOAT16):
        raise SettingsError(
            f"--precision {precision}: the bundle {manifest.name} has int8 weights alone. Use --precision "
            "int8, or a bundle that was quantized without --only_int8."
        )
    if not precision.is_integer or manifest.signature_of(precision) is not None:
        return
    if manifest.int8 is not None:
        raise SettingsError(
            f"--precision {precision}: the bundle {manifest.name} does not have it: it cost too much when "
            "the bundle was quantized, or this was done without its instructions. Use float32 or int8."
        )
    raise SettingsError(
        f"--precision {precision}: the bundle {manifest.name} has no int8 weights. Make a bundle that has: "
        "python -m model_bundle quantize BUNDLE --texts F --output DIR"
    )
