"""Remote jobs: worker settings, bundle upload, and launches that have nothing to do."""
