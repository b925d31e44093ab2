"""Checks of a sentence's features before they are stored, which the writers of all formats share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bridge.errors import InputTypeError, InputValueError
from bridge.features.metadata import FeatureMetadata


def as_stored(features: np.ndarray, metadata: FeatureMetadata, number: int, sentence: str | None) -> np.ndarray:
    """A sentence's features in the dtype of the file, contiguous.

    Args:
        features: float32 or float16 `(timesteps, *token_shape)`.
        metadata: of the file.
        number, sentence: how messages call it.

    Raises:
        InputTypeError: they are of another type.
        InputValueError: they have another shape, or hold a value that is not finite or that float16 does not have.
    """
    if not isinstance(features, np.ndarray) or features.dtype not in (np.float32, np.float16):
        received = features.dtype if isinstance(features, np.ndarray) else type(features).__name__
        raise InputTypeError(
            f"`features` must be a NumPy array of float32 or float16. Received: {received}. Convert it, for example "
            'with `numpy.asarray(features, dtype="float32")`.'
        )
    if features.ndim != len(metadata.token_shape) + 1 or features.shape[1:] != metadata.token_shape:
        wanted = ", ".join(map(str, ("timesteps", *metadata.token_shape)))
        raise InputValueError(
            f'`features` must have the shape ({wanted}), as of layers="{metadata.layers}". Received: '
            f"{features.shape}, of {_described(number, sentence)}."
        )
    with np.errstate(over="ignore"):  # told below
        stored = np.ascontiguousarray(features, dtype=metadata.dtype)
    if not np.isfinite(stored).all():
        fault, remedy = "NaN or an infinite value", "Look at the weights, and at what was done to the features."
        if np.isfinite(features).all():
            fault = f"{float(np.abs(features).max()):.6g}, which float16 does not have: it ends at 65504"
            remedy = 'Use dtype="float32".'
        raise InputValueError(
            f"`features` must be finite. Received: {fault}, in {_described(number, sentence)}. {remedy}"
        )
    return stored


def as_text(sentence: str | Sequence[str] | None) -> str | None:
    """A sentence as text: tokens are joined by spaces.

    Raises:
        InputTypeError: it is neither a string nor a list of strings.
    """
    if sentence is None or isinstance(sentence, str):
        return sentence
    if not isinstance(sentence, Sequence) or not all(isinstance(token, str) for token in sentence):
        raise InputTypeError(
            f"`sentence` must be a string or a list of tokens. Received: {sentence!r:.80} of type "
            f"{type(sentence).__name__}."
        )
    return " ".join(sentence)


def _described(number: int, sentence: str | None) -> str:
    return f"sentence {number}" + ("" if sentence is None else f" ({sentence!r:.80})")
