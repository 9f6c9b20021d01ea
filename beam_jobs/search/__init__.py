"""Nearest-neighbour search over the rows of a run."""
