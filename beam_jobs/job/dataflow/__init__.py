"""Jobs that a scheduler starts: dates in patterns, days without files, retries, and what workers need."""
