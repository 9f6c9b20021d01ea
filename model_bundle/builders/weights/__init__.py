"""Reads stored weights as NumPy arrays. Read ``stored``, then ``read``, then one file per format."""
