"""Runs a model in a child process, which may crash without ending the worker.

Read ``runtime`` (the API), ``process`` (the parent's side), ``child`` and ``shared_arrays``.
"""
