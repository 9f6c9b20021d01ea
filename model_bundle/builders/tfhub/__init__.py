"""Builds bundles from modules of TensorFlow Hub, in the formats of TensorFlow 1 and 2.

Read ``build`` first, then in the order of the work ``handle``, ``load``, ``function`` and ``resolve``. The
other files are steps of ``resolve``; ``keras`` uses several of them for SavedModels of its own.
"""
