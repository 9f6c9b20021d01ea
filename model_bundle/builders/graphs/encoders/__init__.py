"""Graphs of encoders that differ from BERT, one architecture per file.

``mpnet.py`` adds a bias to BERT's scores; ``modernbert.py`` has rotary positions and local attention;
``deberta.py`` has relative positions in each layer; ``long_attention.py`` bounds the memory of long texts.
"""
