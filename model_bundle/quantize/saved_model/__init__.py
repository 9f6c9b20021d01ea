"""int8 for SavedModels of others, whose graph is replayed with other matrix products in it.

Read ``model`` first, then ``products``, ``activations``, ``replay`` and ``rewrite``.
"""
