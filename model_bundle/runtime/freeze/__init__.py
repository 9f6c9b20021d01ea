"""Weights to constants, so that the kernels pack them once."""
