"""Saved Keras and TensorFlow models to bundles. Read ``build`` first, then ``source`` and ``resolve``."""
