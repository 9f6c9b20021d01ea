"""From flags to a finished run: the plan, the run that is watched, what is printed."""
