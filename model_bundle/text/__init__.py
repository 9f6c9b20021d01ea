"""Text to model input: which way a bundle asks for."""

from __future__ import annotations

from pathlib import Path

from model_bundle.bundle.manifest import TOKENIZER_FILE, BundleManifest, Rows
from model_bundle.errors import SettingsError
from model_bundle.text.prepared import NoTextInput, PlainTextInput, PreparedTexts, TextInput
from model_bundle.text.subwords import SubwordInput
from model_bundle.text.windows import WindowInput

__all__ = ["PreparedTexts", "TextInput", "text_input", "window_input"]


def text_input(
    bundle_dir: Path,
    manifest: BundleManifest,
    max_tokens: int | None,
    prompt: str,
    rows: Rows = Rows.DOCUMENT,
) -> TextInput:
    """Makes the text side of a bundle, with a limit and a prompt; TensorFlow is not needed.

    With rows of words, what it prepares knows its words (``PreparedWords``), where the bundle has any.
    """
    spec = manifest.tokenizer
    if spec.kind == "subwords":
        if rows is Rows.WORD:
            from model_bundle.text.subword_alignment import SubwordWordInput

            return SubwordWordInput(bundle_dir / TOKENIZER_FILE, max_tokens, spec.pad_id, prompt)
        return SubwordInput(bundle_dir / TOKENIZER_FILE, max_tokens, spec.pad_id, prompt)
    if spec.kind == "words":
        from model_bundle.text.words import WordInput

        return WordInput(spec, max_tokens, prompt)
    if spec.kind == "none":
        return NoTextInput()
    return PlainTextInput(prompt, lowercase=bool(spec.lowercase))


def window_input(
    bundle_dir: Path, manifest: BundleManifest, max_tokens: int, prompt: str, rows: Rows, overlap: int
) -> WindowInput:
    """The same where long texts become windows: what it prepares is ``WindowedTexts``.

    Raises:
        SettingsError: the overlap leaves no progress, or only the graph knows the tokens.
    """
    from model_bundle.text.window_inputs import SubwordWindowInput, WordWindowInput
    from model_bundle.text.words import WordInput

    whole = text_input(bundle_dir, manifest, None, prompt, rows)
    if isinstance(whole, SubwordInput):
        return SubwordWindowInput(whole, max_tokens, overlap, prompt)
    if isinstance(whole, WordInput):
        return WordWindowInput(whole, max_tokens, overlap, prompt)
    raise SettingsError(
        f"--on_long windows: only the graph of {manifest.name} knows its tokens; nothing can be cut."
    )
