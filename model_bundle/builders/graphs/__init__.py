"""Part of model_bundle; see its package docstring."""
