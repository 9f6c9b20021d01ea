"""Measures this project beside its peers; see README.md. Run from the root of a checkout."""
