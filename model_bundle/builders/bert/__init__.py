"""BERT, DistilBERT and RoBERTa models to bundles. Read ``build`` first, then ``source``."""
