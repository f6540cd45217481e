"""Data files: find the format, read the rows as records, say what is wrong and where."""
