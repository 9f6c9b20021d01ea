"""Builds bundles from the ELMo files of bilm and AllenNLP. Read ``build`` first, then ``bilm_files``."""
