"""A model that gives every sentence a label: `classifier`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from bridge.heads.data import check_labels
from bridge.heads.vectors import Config, token_vectors

REFUSED = {
    "output_mode": ("elmo", "the classifier takes one vector a token"),
    "num_output_representations": (1, "the classifier takes one vector a token"),
    "pooling": (None, "the classifier pools by itself"),
}


def classifier(
    config: Config = None,
    *,
    labels: Sequence[str],
    units: int = 64,
    dropout: float = 0.1,
    optimizer: str | keras.optimizers.Optimizer | None = None,
    vectors: Sequence[keras.layers.Layer] | None = None,
    **elmo_arguments: Any,
) -> keras.Model:
    """A compiled Keras model that gives every sentence one of several labels.

    ELMo, dropout, a dense tanh layer over every token, the mean over the tokens, batch normalisation, a softmax.

    Args:
        config: which weights: what `ElmoConfig.load` accepts.
        labels: the labels, in the order of their indices; two or more.
        units: width of the dense layer.
        dropout: rate of the dropout on the vectors.
        optimizer: Adam with a learning rate of 0.001 by default.
        vectors: layers to use in the place of ELMo: string tokens in, vectors with a mask out.
        **elmo_arguments: other arguments of `ElmoEmbedding`, such as `requires_grad=True`. Its own `dropout` is 0
            here unless given.

    Call arguments:
        inputs: string tokens `(batch, timesteps)`, `""` as padding after the tokens; a token at least in every row.

    Returns:
        Of the model: probabilities `(batch, num_labels)`. It is compiled for targets `(batch,)`, the indices of the
        labels, with the metric `accuracy`.

    Masking:
        Padding changes no number.

    Raises:
        InputTypeError, InputValueError: `labels`, or an argument that changes the shape of ELMo's output. For the
            others see `ElmoEmbedding`.

    Example:
        >>> model = classifier("demo", labels=["blame", "praise"])
        >>> tokens = tf.ragged.constant([["not", "bad"], ["the", "soup", "was", "bad"]]).to_tensor()
        >>> model.fit(tokens, np.array([1, 0]))
        >>> model.predict(tokens).shape
        (2, 2)
    """
    labels = check_labels(labels)
    inputs = keras.Input((None,), dtype="string", name="tokens")
    outputs = inputs
    for layer in (
        *token_vectors(config, vectors, elmo_arguments, REFUSED),
        keras.layers.Dropout(dropout),
        keras.layers.Dense(units, activation="tanh"),
        keras.layers.GlobalAveragePooling1D(),
        keras.layers.BatchNormalization(momentum=0.9),
        # In float32 under a mixed policy too: these are probabilities.
        keras.layers.Dense(len(labels), activation="softmax", dtype="float32", name="label"),
    ):
        outputs = layer(outputs)
    model = keras.Model(inputs, outputs, name="classifier")
    model.compile(optimizer or keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model
