"""Input files to documents. ``transform`` has the steps; a format is a file in ``formats``."""
