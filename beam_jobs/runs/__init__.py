"""Management of runs: list, delete, validate, compact."""
