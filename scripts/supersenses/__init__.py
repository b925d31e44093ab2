"""The parts of wordnet_supersenses.py."""
