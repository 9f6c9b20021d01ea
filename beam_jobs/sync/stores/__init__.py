"""The stores, one file each; ``beam_jobs.sync.store`` is what they have in common."""
