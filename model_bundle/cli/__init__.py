"""The command line of this package: one file per command, heavy imports inside what runs."""
