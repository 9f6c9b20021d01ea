"""Turns weights into constants, so that kernels pack them once.

Read ``freeze``, then ``weights`` and ``optimize``.
"""
