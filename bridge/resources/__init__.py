"""Which weights, and are they sound? Needs neither PyTorch nor TensorFlow."""
