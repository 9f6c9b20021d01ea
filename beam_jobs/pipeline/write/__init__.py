"""Rows to a finished run: shards, receipts, and the commit that writes the manifest last."""
