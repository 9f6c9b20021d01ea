"""The flags for long texts, and for rows that are parts of a text."""

from __future__ import annotations

import argparse


def add_long_texts(group: argparse._ArgumentGroup) -> None:
    """Adds the flags that every job has."""
    group.add_argument(
        "--on_long",
        choices=["truncate", "windows", "dead_letter", "fail"],
        help="what becomes of texts with more tokens: the first ones count (truncate, default), overlapping "
        "windows, no row, or no run",
    )
    group.add_argument(
        "--window_overlap", type=int, metavar="N", help="tokens that windows have in common (default: 0)"
    )


def add_rows(group: argparse._ArgumentGroup) -> None:
    """Adds the flags of what a row of vectors is."""
    group.add_argument(
        "--rows",
        choices=["document", "window", "word"],
        default="document",
        help="one row a document, a window of a long one, or a word, with its place in the text",
    )
    group.add_argument(
        "--combine",
        choices=["mean", "max"],
        help="windows to one vector a document: the mean, weighted by tokens, or the largest of each number "
        "(default: mean)",
    )
    group.add_argument(
        "--word_pieces",
        choices=["first", "mean"],
        help="what a word of several tokens gets: its first one's vector, or the mean of all (default: mean)",
    )
