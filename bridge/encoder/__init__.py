"""The PyTorch side: character ids to biLM layers. Never imports TensorFlow."""
