"""Benchmarks of this project and its peers; see README.md. Run from the root of a checkout."""
