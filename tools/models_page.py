"""Writes ``docs/models.md`` from ``docs/models.json`` and the families that ``build bert`` knows.

``python tools/models_page.py`` writes the page; a test holds it to what this would write.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from model_bundle.builders.bert.families.family import Family
from model_bundle.builders.bert.families.nearest import LACKING
from model_bundle.builders.bert.families.registry import FAMILIES

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "models.md"
MODELS = ROOT / "docs" / "models.json"


@dataclass(frozen=True)
class Tested:
    """What a family is tested with: the formats of its weights, and patterns of files in ``tests/data``."""

    formats: str
    recorded: tuple[str, ...]


TESTED = {
    "bert": Tested("safetensors, `tf_model.h5`, Google", ("tiny_bert*", "families/bert_unigram")),
    "roberta": Tested("safetensors, `tf_model.h5`", ("tiny_roberta*",)),
    "xlm-roberta": Tested("safetensors, `tf_model.h5`", ("families/xlm_roberta",)),
    "camembert": Tested("safetensors", ("families/camembert",)),
    "distilbert": Tested("safetensors", ("tiny_distilbert*",)),
    "mpnet": Tested("safetensors, `tf_model.h5`", ("families/mpnet*",)),
    "electra": Tested("safetensors, `tf_model.h5`, Google", ("families/electra*",)),
    "albert": Tested("safetensors, `tf_model.h5`, Google", ("families/albert*",)),
    "modernbert": Tested("safetensors", ("encoders/modernbert*",)),
    "deberta-v2": Tested("safetensors", ("encoders/deberta_*",)),
    "deberta": Tested("safetensors", ("encoders/deberta1*",)),
}
_TITLES = {"roberta": "RoBERTa", "xlm-roberta": "XLM-RoBERTa", "camembert": "CamemBERT"}
# What a model needs beyond its family: whether that is there, and what it is.
NEEDS = {
    "unigram": (True, "with the tokenizer of XLM-RoBERTa"),
    "dense": (True, "with its dense layer"),
    "pairs": (True, "with `--task pairs`"),
    "code": (False, "attention with linear biases, in code of its own"),
}


_PAGE = """\
# Models that can be built

This page is written by `python tools/models_page.py` from `docs/models.json` and the families that the code
knows; do not edit it. How to build: [quickstart](quickstart.md#build-a-bundle).

## Families
Token ids, states of every layer, pooled vectors and logits of heads are held within 1e-5 to what PyTorch gave
for small random models, one for each switch of a configuration, in float32; vectors in bfloat16 to a cosine
of 0.999. A setting that is not supported is refused by its name, never ignored.

| family | `model_type` | weights, tested from | recorded models (`tests/data`) | `quantize` |
|---|---|---|---|---|
{families}

## The {count} models that people use most
Chosen on {chosen}.
*Builds* is what their family promises; of these files themselves only all-MiniLM-L6-v2 is part of the tests,
and all-mpnet-base-v2 was [compared once](decisions/families.md). A repository that has only pickled weights
must be converted once: the error says how.

| model | for | family | builds |
|---|---|---|---|
{models}
"""


def page() -> str:
    """Returns the page."""
    content = json.loads(MODELS.read_text(encoding="utf-8"))
    families = {kind: family for family in FAMILIES for kind in family.model_types}
    return _PAGE.format(
        families="\n".join(_family(kind, family) for kind, family in families.items()),
        count=len(content["models"]),
        chosen=content["chosen"],
        models="\n".join(_model(families, *row) for row in content["models"]),
    )


def _family(kind: str, family: Family) -> str:
    tested = TESTED.get(kind)
    title = family.title if len(family.model_types) == 1 else _TITLES[kind]
    formats = tested.formats if tested else ""
    folders = ", ".join(f"`{name}`" for name in tested.recorded) if tested else ""
    int8 = "int8" if family.has_int8 else "refused by name"
    return f"| {title} | `{kind}` | {formats} | {folders} | {int8} |"


def _model(families: dict[str, Family], name: str, purpose: str, kind: str, need: str) -> str:
    has, what = NEEDS.get(need, (True, ""))
    family = families.get(kind)
    if family is None:
        builds = f"no: {LACKING[kind][1]}" if kind in LACKING else "no"
    elif not has:
        builds = f"no: {what}"
    else:
        builds = f"yes, {what}" if what else "yes"
    return f"| {name} | {purpose} | `{kind}` | {builds} |"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
