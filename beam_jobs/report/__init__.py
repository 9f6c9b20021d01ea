"""The report of a run: one self-contained HTML page, built from the manifest and a sample of the rows.

``row_sample`` reads, ``projection`` computes, ``charts`` draws, ``sections`` builds the parts, ``page`` joins
and writes them; an error there never fails the run.
"""
