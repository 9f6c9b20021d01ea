"""Trains a classifier on a bundle's vectors: from a table of texts and labels to a new bundle.

Read ``train``, then its steps: ``options``, ``examples``, ``split``, ``features``, ``head``, ``fine_tune``,
``export`` and ``report``.
"""
