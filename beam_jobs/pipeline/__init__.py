"""The Beam pipeline: read, encode, write; ``build`` shows all of it on one screen."""
