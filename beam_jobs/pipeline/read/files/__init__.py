"""Patterns to files, and files to bytes and lines."""
