"""Modules of TF-Hub to bundles. Read ``build`` first, then ``handle`` and ``resolve``."""
