"""Whole corpora to features."""
