"""Vectors of old beside today's: are they the same, and if not, which setting would make them so."""
