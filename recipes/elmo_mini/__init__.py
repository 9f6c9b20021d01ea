"""The recipe of ``elmo-mini``: a small ELMo, a language model that all-MiniLM-L6-v2 taught."""
