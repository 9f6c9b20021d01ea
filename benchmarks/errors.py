"""What ends a benchmark early."""


class BenchmarkError(Exception):
    """Something could not be measured; the message says what and what to do."""
