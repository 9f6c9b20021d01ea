"""Compares reference vectors with a bundle's, and finds settings that explain a difference.

Read ``read_files``, ``compare``, then ``search_settings`` with ``settings`` and ``reference_model``.
"""
