"""What is measured: one script a system, run by its own interpreter. Only ours may import this project."""
