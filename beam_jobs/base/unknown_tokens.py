"""When unknown tokens are worth a warning, and what it says. Why so: docs/decisions/unknown-tokens.md."""

from __future__ import annotations

# Documents with a larger fraction of unknown tokens are counted as ``num_mostly_unknown``.
MOSTLY = 0.5
# A warning is due above either: a fraction of all tokens, or of the documents that are mostly unknown.
_MAX_TOKENS = 0.05
_MAX_DOCUMENTS = 0.01


def unknown_warning(token_fraction: float, document_fraction: float) -> str | None:
    """Returns a warning if a model does not know much of its texts, else None.

    Args:
        token_fraction: unknown tokens, as a fraction of all tokens.
        document_fraction: documents that are mostly unknown, as a fraction of all.

    >>> unknown_warning(0.0002, 0.0) is None
    True
    """
    if token_fraction <= _MAX_TOKENS and document_fraction <= _MAX_DOCUMENTS:
        return None
    documents = f", and most of the tokens of {100 * document_fraction:.1f} % of the documents"
    return (
        f"{100 * token_fraction:.1f} % of the tokens are unknown to the model"
        f"{documents if document_fraction else ''}. Different texts that a model does not know get "
        "nearly the same result. Use a bundle whose vocabulary has their language or script, such as one of "
        "a multilingual model; --max_unknown_fraction 0.5 makes dead letters of documents that are mostly "
        "unknown."
    )
