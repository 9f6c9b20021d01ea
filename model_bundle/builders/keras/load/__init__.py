"""Loads a Keras file in a process of its own and saves its inference as a SavedModel."""
