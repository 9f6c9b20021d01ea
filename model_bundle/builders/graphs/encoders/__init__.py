"""Graphs of encoders that differ from BERT, one architecture per file.

``modernbert.py`` has rotary positions and local attention; ``long_attention.py`` bounds the memory of long
texts.
"""
