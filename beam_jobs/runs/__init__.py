"""Looking after runs: what there is, what can go, whether one is whole, fewer and larger files."""
