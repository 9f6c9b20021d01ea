"""Remote jobs: machines and their prices, worker settings, bundle upload, launches with nothing to do."""
