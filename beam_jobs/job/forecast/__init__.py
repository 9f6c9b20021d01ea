"""Predicts what a run will cost: documents, tokens, hours, bytes and money.

``sample`` reads part of the input, ``measure`` runs the model on some of it, ``count`` plans batches from
lengths, ``estimate`` scales to the whole input, ``command`` prints and saves.
"""
