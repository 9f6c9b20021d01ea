"""Rows of a run: Arrow schemas and record batches."""
