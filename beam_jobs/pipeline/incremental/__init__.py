"""Rows of earlier runs: finding them again by the digest of their text, and what changed since then.

``runs`` says which earlier run is meant, ``plan`` whether its rows fit, ``index`` finds them by digest,
``old_rows`` reads them, and ``reuse`` is the step of the pipeline.
"""
