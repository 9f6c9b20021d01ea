"""Signatures with other inputs: the features of serialized messages, zeros for what has no effect."""
