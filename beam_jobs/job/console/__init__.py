"""What a command writes to the terminal or log, and the signals that end it."""
