"""What a run will cost, said before it: documents, tokens, hours, bytes, money.

``sampling`` reads a part of the input, ``measuring`` runs the model on some of it, ``counting`` plans batches
of lengths, ``prices`` knows machines, ``estimate`` multiplies, ``printing`` shows and saves.
"""
