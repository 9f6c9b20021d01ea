"""Stored weights of every file format as NumPy arrays."""
