"""Whole corpora to features."""

from bridge.packages import require_packages

require_packages("numpy", "torch")
