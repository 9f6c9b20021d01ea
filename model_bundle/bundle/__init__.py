"""A bundle on disk: its manifest, its digests, where it is found."""
