"""Makes bert-mini: ``python -m recipes.bert_mini --text FILE --work DIR --output DIR``."""

from __future__ import annotations

import argparse
from pathlib import Path


def main() -> None:
    """Goes through the stages; what is in the work folder already is not made again."""
    parser = argparse.ArgumentParser(prog="python -m recipes.bert_mini", description=__doc__)
    parser.add_argument("--text", type=Path, help="wikisplit_sentences.txt.gz")
    parser.add_argument("--work", type=Path, help="folder for what is kept between stages")
    parser.add_argument("--output", type=Path, required=True, help="folder of the bundle, made anew")
    parser.add_argument(
        "--untrained", action="store_true", help="random weights instead, to measure what training gave"
    )
    flags = parser.parse_args()
    if not flags.untrained and (flags.text is None or flags.work is None):
        parser.error("--text and --work are needed, unless the model stays --untrained")

    from recipes.bert_mini.make import make_bundle, make_untrained

    made = (
        make_untrained(flags.output) if flags.untrained else make_bundle(flags.text, flags.work, flags.output)
    )
    print(made)


if __name__ == "__main__":
    main()
