"""The labels that go with stored sentences: `Labels`."""

from __future__ import annotations

from itertools import chain
from typing import Any

import numpy as np

from bridge.errors import InputTypeError, InputValueError

WANTED = (
    "`labels` must be an array of numbers with one entry for each sentence, or a list with a sequence of numbers for "
    "each sentence, one for each token"
)


class Labels:
    """A label for each sentence, or for each of their tokens.

    Args:
        labels: an array (of NumPy, TensorFlow or pandas), or a list of numbers, with an entry a sentence, which may
            itself be an array, such as a one-hot row; or a list (a RaggedTensor, a column of lists) of a sequence a
            sentence, with an entry a token.
        lengths: number of tokens of every sentence.

    Attributes:
        of_tokens: whether each token has a label.
        dtype: of the labels.
        shape: of one label.

    Raises:
        InputTypeError: the labels are no numbers, or of both kinds.
        InputValueError: they are not as many as sentences, or as tokens.
    """

    def __init__(self, labels: Any, lengths: np.ndarray) -> None:
        if hasattr(labels, "row_lengths"):  # a RaggedTensor
            labels = labels.to_list()
        if isinstance(labels, str | bytes | dict | set) or not hasattr(labels, "__len__"):
            raise InputTypeError(f"{WANTED}. Received: {labels!r:.80} of type {type(labels).__name__}.")
        if not isinstance(labels, list | tuple):
            array = np.asarray(labels)
            labels = array.tolist() if array.dtype == object else array
        if len(labels) != len(lengths):
            raise InputValueError(f"{WANTED}. Received: {len(labels)} for {len(lengths)} sentences.")
        self.of_tokens = isinstance(labels, list | tuple) and any(map(_is_sequence, labels))
        if self.of_tokens:
            labels = self._flat(labels, lengths)
            self._begins = np.cumsum(lengths) - lengths
        self._values = _numbers(labels)
        self.dtype, self.shape = self._values.dtype, self._values.shape[1:]

    def of(self, sentences: np.ndarray, lengths: np.ndarray, timesteps: int) -> np.ndarray:
        """The labels of a batch: `(batch, ...)`, or `(batch, timesteps, ...)` with 0 as padding.

        Args:
            sentences: their numbers.
            lengths: number of tokens of each of them.
            timesteps: of the batch.
        """
        if not self.of_tokens:
            return self._values[sentences]
        batch = np.zeros((len(sentences), timesteps, *self.shape), self.dtype)
        for row, begin, length in zip(batch, self._begins[sentences], lengths, strict=True):
            row[:length] = self._values[begin : begin + length]
        return batch

    def _flat(self, labels: Any, lengths: np.ndarray) -> list[Any]:
        for number, (of_tokens, length) in enumerate(zip(labels, lengths, strict=True)):
            if not _is_sequence(of_tokens):
                raise InputTypeError(
                    f"{WANTED}. Received: both, {of_tokens!r:.80} of type {type(of_tokens).__name__} for sentence "
                    f"{number}. An empty sentence has an empty sequence."
                )
            if len(of_tokens) != length:
                raise InputValueError(
                    f"{WANTED}. Received: {len(of_tokens)} for the {length} tokens of sentence {number}. If these are "
                    "labels of whole sentences, such as one-hot rows, make them one array: `np.array(labels)`."
                )
        return list(chain.from_iterable(labels))


def _is_sequence(value: Any) -> bool:
    # Scalars of NumPy and tensors have a `__len__` of their own only where they are no scalars.
    return isinstance(value, list | tuple) or (hasattr(value, "shape") and len(value.shape) > 0)


def _numbers(labels: Any) -> np.ndarray:
    try:
        values = np.asarray(labels)
    except ValueError:  # ragged inside
        raise InputValueError(f"{WANTED}; the entries must be of one shape. Received: several shapes.") from None
    if not len(values) and isinstance(labels, list):
        return values.astype(np.int32)
    if values.dtype.kind not in "biuf":
        raise InputTypeError(
            f"{WANTED}. Received: entries of dtype {values.dtype}, such as {values.reshape(-1)[:1].tolist()!r:.80}. "
            "Give indices: `[names.index(label) for label in labels]`."
        )
    return values
