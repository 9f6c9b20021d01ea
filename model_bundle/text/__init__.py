"""Text to model input: tokenizing and windows.

Read ``prepared`` (the protocols), ``subwords`` and ``words`` (the tokenizers), ``subword_alignment`` (words
of subwords), then ``windows``, ``window_words`` and ``window_inputs`` (long texts), ``boundaries`` and
``grouping`` (windows that end after sentences), ``pairs`` (two texts at once), and ``unknown`` (unknown
tokens).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from model_bundle.bundle.manifest import TOKENIZER_FILE, BundleManifest
from model_bundle.bundle.specs import Rows
from model_bundle.errors import SettingsError
from model_bundle.text.grouping import Grouping
from model_bundle.text.pairs import PairInput, PairWindowInput, TextPair
from model_bundle.text.prepared import NoTextInput, PlainTextInput, PreparedTexts, TextInput
from model_bundle.text.subwords import SubwordInput
from model_bundle.text.windows import WindowInput

__all__ = ["PreparedTexts", "TextInput", "TextPair", "as_taken", "text_input", "window_input"]


def text_input(
    bundle_dir: Path,
    manifest: BundleManifest,
    max_tokens: int | None,
    prompt: str,
    rows: Rows = Rows.DOCUMENT,
) -> TextInput:
    """Builds the text preparation of a bundle, with a limit and a prompt; TensorFlow is not needed.

    With rows of words, prepared texts are ``PreparedWords``, if the bundle's tokens are words or subwords.
    """
    spec = manifest.tokenizer
    if manifest.pair_truncation is not None:
        return PairInput(bundle_dir / TOKENIZER_FILE, max_tokens, spec.pad_id, manifest.pair_truncation)
    if spec.kind == "subwords":
        from model_bundle.text.subword_alignment import SubwordWordInput

        kind = SubwordWordInput if rows is Rows.WORD else SubwordInput
        pools_prompt = all(given.role != "skipped" for given in manifest.inputs.values())
        tokenizer = bundle_dir / TOKENIZER_FILE
        return kind(tokenizer, max_tokens, spec.pad_id, prompt, pools_prompt=pools_prompt)
    if spec.kind == "words":
        from model_bundle.text.words import WordInput

        return WordInput(spec, max_tokens, prompt)
    if spec.kind == "none":
        return NoTextInput()
    return PlainTextInput(prompt, lowercase=bool(spec.lowercase))


def window_input(
    bundle_dir: Path,
    manifest: BundleManifest,
    max_tokens: int,
    prompt: str,
    rows: Rows,
    overlap: int,
    grouping: Grouping | None = None,
) -> WindowInput:
    """Does the same where long texts become windows: prepared texts are ``WindowedTexts``.

    Windows share ``overlap`` tokens, or what ``grouping`` says.

    Raises:
        SettingsError: the overlap is too large, or the graph tokenizes.
    """
    from model_bundle.text.window_inputs import SubwordWindowInput, WordWindowInput
    from model_bundle.text.words import WordInput

    whole = text_input(bundle_dir, manifest, None, prompt, rows)
    if isinstance(whole, PairInput):
        return PairWindowInput(whole, max_tokens, overlap)
    if isinstance(whole, SubwordInput):
        return SubwordWindowInput(whole, max_tokens, overlap, prompt, grouping)
    if isinstance(whole, WordInput):
        return WordWindowInput(whole, max_tokens, overlap, prompt, grouping)
    raise SettingsError(
        f"--on_long windows: {manifest.name} tokenizes inside its graph, so its texts cannot be split."
    )


def as_taken(manifest: BundleManifest, texts: Sequence[str]) -> Sequence[str] | Sequence[TextPair]:
    """Returns sample texts as a bundle takes them: where it takes two, each with the one after it."""
    if manifest.task != "pairs":
        return texts
    return [(text, texts[(at + 1) % len(texts)]) for at, text in enumerate(texts)]
