"""The measured systems: one script each, run by its own interpreter. Only ours may import this project."""
