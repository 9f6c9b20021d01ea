"""Texts to results in memory, without Beam.

Read ``encoder`` or ``classifier`` (the API), then ``text_encoder`` with ``batching``, ``results``,
``window_results`` and ``numeric_inputs``; ``scores`` for classes. ``stateful_elmo``, ``verify`` and
``speedups`` are separate tools.
"""
