"""Builds bundles from BERT, DistilBERT and RoBERTa models of Hugging Face, sentence-transformers and Google.

Read ``build`` first, then ``source``, which reads a model with the other files.
"""
