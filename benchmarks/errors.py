"""The error of all benchmarks."""


class BenchmarkError(Exception):
    """Something could not be measured; the message says what it was and how to fix it."""
