"""Finds what a SavedModel can do besides computing, before any of it runs.

Read ``scan``, then ``allowed_operations``, ``roots``, ``call_graph``, ``assets`` and ``proto``.
"""
