"""Text to model input: which way a bundle asks for."""

from __future__ import annotations

from pathlib import Path

from model_bundle.manifest import TOKENIZER_FILE, BundleManifest, Rows
from model_bundle.text.prepared import NoTextInput, PlainTextInput, PreparedTexts, TextInput
from model_bundle.text.subwords import SubwordInput

__all__ = ["PreparedTexts", "TextInput", "text_input"]


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
            from model_bundle.text.subword_words import SubwordWordInput

            return SubwordWordInput(bundle_dir / TOKENIZER_FILE, max_tokens, spec.pad_id, prompt)
        return SubwordInput(bundle_dir / TOKENIZER_FILE, max_tokens, spec.pad_id, prompt)
    if spec.kind == "words":
        from model_bundle.text.words import WordInput

        return WordInput(spec, max_tokens, prompt)
    if spec.kind == "none":
        return NoTextInput()
    return PlainTextInput(prompt, lowercase=bool(spec.lowercase))
