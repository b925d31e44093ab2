"""A model that gives every token a tag: `tagger`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from bridge.heads.data import check_labels
from bridge.heads.metrics import EntityScores, TokenAccuracy, has_entities
from bridge.heads.vectors import Config, token_vectors

REFUSED = {
    "output_mode": ("elmo", "the tagger takes one vector a token"),
    "num_output_representations": (1, "the tagger takes one vector a token"),
    "pooling": (None, "the tagger takes one vector a token"),
    "keep_sentence_boundaries": (False, "boundaries have no tags"),
    "max_sequence_length": (None, "tokens that are cut off would have no tags"),
}


def tagger(
    config: Config = None,
    *,
    labels: Sequence[str],
    units: int = 100,
    dropout: float = 0.5,
    optimizer: str | keras.optimizers.Optimizer | None = None,
    vectors: Sequence[keras.layers.Layer] | None = None,
    **elmo_arguments: Any,
) -> keras.Model:
    """A compiled Keras model that gives every token one of several tags.

    ELMo, dropout, a bidirectional LSTM, dropout, a softmax over every token.

    Args:
        config: which weights: what `ElmoConfig.load` accepts.
        labels: the tags, in the order of their indices; two or more. Where they are BIO tags, entities are scored.
        units: width of each direction of the LSTM.
        dropout: rate of the dropout before and behind the LSTM.
        optimizer: Adam with a learning rate of 0.001 by default.
        vectors: layers to use in the place of ELMo: string tokens in, vectors with a mask out.
        **elmo_arguments: other arguments of `ElmoEmbedding`, such as `requires_grad=True`. Its own `dropout` is 0
            here unless given.

    Call arguments:
        inputs: string tokens `(batch, timesteps)`, `""` as padding after the tokens.

    Returns:
        Of the model: probabilities `(batch, timesteps, num_labels)`. It is compiled for targets `(batch, timesteps)`,
        the indices of the tags and any index at padding, with the metrics `accuracy` (`TokenAccuracy`) and, for BIO
        tags, `precision`, `recall` and `f1` (`EntityScores`).

    Masking:
        The mask leaves padding out of the loss and the metrics. They and the tokens' probabilities do not change
        with the number of padded timesteps.

    Raises:
        MissingDependencyError: the labels are BIO tags, and `seqeval` is not installed.
        InputTypeError, InputValueError: `labels`, or an argument that changes the shape of ELMo's output. For the
            others see `ElmoEmbedding`.

    Example:
        >>> model = tagger("demo", labels=["O", "B-FOOD", "I-FOOD"])
        >>> tokens = tf.ragged.constant([["fish", "soup", "was", "bad"], ["good", "bread"]]).to_tensor()
        >>> model.fit(tokens, np.array([[1, 2, 0, 0], [0, 1, 0, 0]]))
        >>> model.predict(tokens).shape
        (2, 4, 3)
    """
    labels = check_labels(labels)
    metrics: list[Any] = [TokenAccuracy()]
    if has_entities(labels):
        metrics.append(EntityScores(labels))
    inputs = keras.Input((None,), dtype="string", name="tokens")
    outputs = inputs
    for layer in (
        *token_vectors(config, vectors, elmo_arguments, REFUSED),
        keras.layers.Dropout(dropout),
        keras.layers.Bidirectional(keras.layers.LSTM(units, return_sequences=True)),
        keras.layers.Dropout(dropout),
        # In float32 under a mixed policy too: these are probabilities.
        keras.layers.Dense(len(labels), activation="softmax", dtype="float32", name="tags"),
    ):
        outputs = layer(outputs)
    model = keras.Model(inputs, outputs, name="tagger")
    model.compile(optimizer or keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy", metrics=metrics)
    return model
