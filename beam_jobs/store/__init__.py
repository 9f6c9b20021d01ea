"""What a finished run holds, for those who read it: through the manifest, never by listing a folder."""
