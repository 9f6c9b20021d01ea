"""Training a classifier on a bundle: from a table of texts and labels to a bundle of its own."""
