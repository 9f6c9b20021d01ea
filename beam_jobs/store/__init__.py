"""Runs on disk: folder, manifest, rows; a finished run is read through its manifest, never by listing."""
