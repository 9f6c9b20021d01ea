"""What a SavedModel could do beside computing, found before anything of it runs."""
