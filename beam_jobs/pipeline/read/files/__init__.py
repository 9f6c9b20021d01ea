"""Finds files and reads their bytes and lines."""
