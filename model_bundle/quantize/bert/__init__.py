"""int8 for the BERT graphs of this package, which are built again from their weights.

Read ``encoder`` first, then ``read_encoder`` and ``calibrate``.
"""
