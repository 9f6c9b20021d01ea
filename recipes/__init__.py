"""How the models that ship with the package were made. Part of the repository, not of the package."""
