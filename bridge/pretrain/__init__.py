"""Making the weights of a biLM."""
