"""What every part of this package may use: cache, machine, similarity, tables, threads."""
