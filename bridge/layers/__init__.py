"""The Keras side: ELMo and its mix as layers. Never imports AllenNLP."""

from bridge.layers.keras_backend import check_keras

check_keras()
