"""The Keras side: ELMo and its mix as layers. Never imports AllenNLP."""
