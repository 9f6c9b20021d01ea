"""Builds bundles from saved Keras and TensorFlow models of any version.

Read ``build`` first, then in the order of the work ``source``, ``load``, ``model`` and ``resolve`` with its
imports. A SavedModel is loaded and described with the files of ``tfhub``.
"""
