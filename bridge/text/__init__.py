"""Strings to character ids, in NumPy."""
