"""Texts to results in memory, without Beam: encoders, classifiers, batches."""
