"""The PyTorch side: character ids to biLM layers. Never imports TensorFlow."""

from bridge.packages import require_packages

require_packages("numpy", "torch")
