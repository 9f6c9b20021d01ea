"""Which columns of a table are used, and their types."""
