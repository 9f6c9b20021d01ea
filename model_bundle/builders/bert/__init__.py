"""Builds bundles from models of BERT's kind, of Hugging Face, sentence-transformers and Google.

Read ``build`` first, then ``source``, which reads a model with the other files; ``families`` has what differs
by architecture.
"""
