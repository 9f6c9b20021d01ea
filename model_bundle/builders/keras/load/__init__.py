"""Loads a Keras file in a separate process and saves its inference as a SavedModel.

Read ``parent``, which decides how a file is loaded, then ``child``, which runs in that process, then
``weights`` with ``match``, then ``transformers`` with ``bert_layers``.
"""
