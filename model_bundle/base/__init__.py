"""Helpers without knowledge of bundles: cache folder, machine facts, threads, vector similarity, table files.

The files do not import each other; read them in any order.
"""
