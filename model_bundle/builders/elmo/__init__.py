"""The files of bilm and AllenNLP to bundles."""
