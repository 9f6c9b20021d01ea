"""The report of a run: one HTML page that needs no network, made from the manifest and a sample of the rows.

``sample`` reads, ``projection`` computes, ``charts`` and ``scatter`` draw, ``sections`` and ``page`` put it
together, ``writing`` writes it without ever endangering the run.
"""
