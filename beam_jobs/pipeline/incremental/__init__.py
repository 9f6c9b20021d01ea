"""Incremental runs: reuse of earlier rows by the digest of their text, and changes since then.

``previous_run`` finds the earlier run, ``plan`` decides whether its rows can be reused, ``digest_index``
finds them by digest and ``previous_rows`` reads them. ``reuse_by_index`` and ``changes_by_index`` are the
steps for workers on one machine, ``reuse_by_join``, ``changes_by_join`` and ``earlier_rows_by_join`` those
for remote runners. ``earlier_windows`` finds windows of documents whose text changed.
"""
