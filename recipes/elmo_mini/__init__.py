"""The recipe of ``elmo-mini``: a small ELMo, a language model distilled from all-MiniLM-L6-v2."""
