"""The recipe of ``bert-mini``: a small BERT encoder taught by all-MiniLM-L6-v2."""
