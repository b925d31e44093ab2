"""BiLM layers on disk: computed once, read as often as a head trains."""
