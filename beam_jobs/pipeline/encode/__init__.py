"""Documents to rows: batches for the model, its results, dead letters."""
