"""Adds int8 matrix products to a bundle: calibrates, measures what it costs, refuses.

Read ``build`` first, then ``trial``, ``search`` and ``choose``; ``bert`` and ``elmo`` are for the graphs of
this package, ``saved_model`` for those of others.
"""
