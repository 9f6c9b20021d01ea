"""Recipes of the models that ship with the package. Part of the repository, not of the package."""
