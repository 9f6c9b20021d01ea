"""One loaded model: a request and a batch of arrays in, named arrays out."""
