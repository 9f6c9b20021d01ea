"""The rows of a run: Arrow schemas and record batches."""
