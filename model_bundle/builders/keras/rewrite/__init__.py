"""Signatures with other inputs than those of the model: features of messages, zeros for what has no effect."""
