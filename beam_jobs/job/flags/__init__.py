"""The flags of the commands that run jobs."""
