"""Reads input files into documents: steps in ``transform``, one module per format in ``formats``."""
