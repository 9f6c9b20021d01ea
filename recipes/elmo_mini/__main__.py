"""Builds elmo-mini: ``python -m recipes.elmo_mini --text FILE --work DIR --output DIR``."""

from __future__ import annotations

import argparse
from pathlib import Path


def main() -> None:
    """Runs the stages; results that are already in the work folder are reused."""
    parser = argparse.ArgumentParser(prog="python -m recipes.elmo_mini", description=__doc__)
    parser.add_argument("--text", type=Path, required=True, help="wikisplit_sentences.txt.gz")
    parser.add_argument("--work", type=Path, required=True, help="folder for intermediate results")
    parser.add_argument("--output", type=Path, required=True, help="folder of the new bundle")
    flags = parser.parse_args()

    from recipes.elmo_mini.make import make_bundle

    print(make_bundle(flags.text, flags.work, flags.output))


if __name__ == "__main__":
    main()
