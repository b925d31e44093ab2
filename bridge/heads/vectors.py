"""What the heads stand on: the layers that turn string tokens into vectors."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from bridge.errors import InputTypeError, InputValueError
from bridge.layers.embedding import ElmoEmbedding
from bridge.resources.config import ElmoConfig

Config = str | os.PathLike[str] | ElmoConfig | None


def token_vectors(
    config: Config,
    vectors: Sequence[keras.layers.Layer] | None,
    elmo_arguments: Mapping[str, Any],
    refused: Mapping[str, tuple[Any, str]],
) -> list[keras.layers.Layer]:
    """`ElmoEmbedding(config, **elmo_arguments)`, or the layers given in its place.

    Args:
        config, vectors, elmo_arguments: those of `classifier` and `tagger`.
        refused: arguments of `ElmoEmbedding` that the head has no use for: the only value, and why.
    """
    if vectors is not None:
        if config is not None or elmo_arguments:
            raise InputValueError(
                "`vectors` must stand alone: it takes ELMo's place. Received: `config` or arguments of "
                f"ElmoEmbedding beside it: {config!r}, {dict(elmo_arguments)}. Leave them out."
            )
        if not isinstance(vectors, list | tuple) or not vectors:
            raise InputTypeError(f"`vectors` must be a list of Keras layers. Received: {vectors!r:.80}.")
        return list(vectors)
    for name, (only, reason) in refused.items():
        if elmo_arguments.get(name, only) != only:
            raise InputValueError(
                f"`{name}` must be {only!r} here: {reason}. Received: {elmo_arguments[name]!r}. Build your own model "
                "on ElmoEmbedding."
            )
    # The heads have a dropout of their own.
    return [ElmoEmbedding(config, **{"dropout": 0.0, "name": "elmo", **elmo_arguments})]
