"""Encodes documents: batches for the model, rows from its results, dead letters."""
