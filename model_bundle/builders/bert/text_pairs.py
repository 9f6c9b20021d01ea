"""Recognises heads that score two texts together: rerankers, inference between sentences, paraphrase.

Given one text, such a head would answer to half of its question.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from model_bundle.builders.bert.cross_encoder import is_cross_encoder
from model_bundle.builders.licence import front_matter
from model_bundle.builders.source_folder import SourceFolder
from model_bundle.errors import SourceError

# Tasks on two sentences, as the scripts of transformers recorded them. Source: the tables of GLUE and XTREME.
_PAIR_TASKS = (
    *("mnli", "mnlimm", "snli", "anli", "xnli", "qnli", "rte", "wnli", "qqp", "mrpc"),
    *("stsb", "paws", "pawsx"),
)
# Words that only labels of a relation between two texts have.
_PAIR_LABEL = re.compile(r"entail|contradict|paraphras|duplicate|equivalent", re.IGNORECASE)
_PAIR_TAG = re.compile(
    r"^(?:pipeline_tag:\s*|\s*-\s*)[\"']?"
    r"(text-ranking|zero-shot-classification|cross-encoder|reranker|sentence-similarity-cross-encoder)"
    r"[\"']?\s*$",
    re.MULTILINE,
)
_BUILD_PAIRS = "Build it with --task pairs."
_PAIR_NAME = re.compile(r"cross-?_?encoder|re-?_?rank", re.IGNORECASE)


def pair_evidence(config: Mapping[str, Any], card: str, name: str = "") -> str | None:
    """Returns why a head is taken to score two texts, or None if nothing says so.

    Args:
        config: the content of ``config.json``.
        card: the front matter of the model card; empty if there is none.
        name: what the model is called.

    >>> pair_evidence({"id2label": {"0": "entailment", "1": "neutral"}}, "")
    "its labels: 'entailment'"
    """
    if config.get("sbert_ce_default_activation_function") is not None:
        return "sbert_ce_default_activation_function, which only a CrossEncoder has"
    own = config.get("sentence_transformers")
    if isinstance(own, Mapping) and "activation_fn" in own:
        return "sentence_transformers.activation_fn, which only a CrossEncoder has"
    task = str(config.get("finetuning_task") or "")
    if re.sub(r"[-_ ]", "", task.lower()) in _PAIR_TASKS:
        return f"finetuning_task {task!r}"
    labels = config.get("id2label")
    found = [str(label) for label in _values(labels) if _PAIR_LABEL.search(str(label))]
    if found:
        return f"its labels: {', '.join(map(repr, found))}"
    tag = _PAIR_TAG.search(card)
    if tag:
        return f"its model card: {tag[1]}"
    return f"its name: {name}" if _PAIR_NAME.search(name) else None


def _values(labels: Any) -> Iterable[Any]:
    if isinstance(labels, Mapping):
        return labels.values()
    return labels if isinstance(labels, (list, tuple)) else ()


def check_single_text(
    config: Mapping[str, Any], folder: SourceFolder, name: str, where: str, *, single_text: bool
) -> str | None:
    """Checks that a head scores one text.

    Args:
        config: the content of ``config.json``.
        folder: may contain a model card, and the configuration of a CrossEncoder.
        name: what the model is called.
        where: the configuration's file, for errors.
        single_text: the caller knows that it does.

    Returns:
        A note if ``single_text`` overrules evidence, else None.

    Raises:
        SourceError: something says that it scores two, and ``single_text`` is not set.
    """
    evidence = pair_evidence(config, front_matter(folder), name)
    if is_cross_encoder(folder):
        evidence = "config_sentence_transformers.json: a CrossEncoder"
    if evidence is None:
        return None
    return overruled(evidence, where, single_text=single_text, advice=_BUILD_PAIRS)


def overruled(evidence: str, where: str, *, single_text: bool, advice: str) -> str:
    """Returns the note that ``single_text`` overrules evidence of a head for two texts.

    Args:
        evidence: see ``pair_evidence``.
        where: what says so, for errors.
        single_text: the caller knows that it scores one text.
        advice: what to do if it scores two.

    Raises:
        SourceError: ``single_text`` is not set.
    """
    if single_text:
        return f"head: taken to score one text, as --single_text says, in spite of {evidence}"
    raise SourceError(
        f"{where}: this head scores two texts together ({evidence}): a question and a document, or two "
        f"sentences. Given one text, its scores would mean nothing. {advice} If the head was trained on "
        "single texts, add --single_text."
    )
