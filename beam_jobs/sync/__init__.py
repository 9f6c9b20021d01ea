"""Brings a table of vectors in a database to the rows of a run."""
