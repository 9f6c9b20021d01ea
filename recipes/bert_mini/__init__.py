"""The recipe of ``bert-mini``: a small BERT encoder distilled from all-MiniLM-L6-v2."""
