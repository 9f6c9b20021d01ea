"""A bundle on disk: manifest, digests, name resolution, transfer.

Read ``manifest``, ``digest``, ``bundle``; then ``resolve`` with the places it looks in (``embedded``,
``minilm``, ``gcs``), ``transfer``, ``packed`` and ``describe``. ``graph_scan`` stands on its own.
"""
