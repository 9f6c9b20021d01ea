"""The Beam pipeline: read, encode, write. ``build`` has the whole of it on one screen."""
