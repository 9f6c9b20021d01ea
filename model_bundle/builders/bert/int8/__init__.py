"""Adds int8 matrix products to a bundle of a BERT encoder: calibrates, measures what it costs, refuses.

Read ``build`` first, then ``read_encoder``, ``calibrate``, ``choose`` and ``quality``.
"""
