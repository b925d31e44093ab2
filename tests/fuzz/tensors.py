"""Values of TensorFlow, Keras and PyTorch, for what takes tensors."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf
import torch
from fuzz.values import anything, arrays, character_ids, sentences
from hypothesis import strategies as st

ODD_TENSORS: list[Any] = [
    lambda: tf.ragged.constant([["a"], ["b", "c"]]), lambda: tf.ragged.constant([[1], [2, 3]]),
    lambda: tf.RaggedTensor.from_row_lengths([1, 2], [0, 2]), lambda: tf.sparse.from_dense([[0, 1]]),
    lambda: tf.constant([[True]]), lambda: tf.constant([[1.5]], tf.bfloat16), lambda: tf.zeros((2, 0, 50), tf.int32),
    lambda: tf.constant(["a b", ""]), lambda: tf.constant([[b"\xff\xfe", ""]]), lambda: tf.constant([["", "a"]]),
    lambda: tf.constant([[["a", "b"], ["", ""]]]), lambda: tf.constant("a"), lambda: tf.Variable([[1, 2]]),
    lambda: tf.TensorArray(tf.int32, 1), lambda: keras.Input((None,)),
    lambda: keras.Input((None, 50), dtype="int32"), lambda: keras.Input((None,), dtype="string"),
    lambda: keras.Variable([[1.0]]), lambda: tf.data.Dataset.from_tensors([1]), lambda: torch.zeros(2, 3, 50).long(),
    lambda: torch.ones(2, 3), lambda: torch.ones(2, 3, requires_grad=True), lambda: torch.ones(2, 2).bfloat16(),
    lambda: torch.eye(2).to_sparse(), lambda: torch.zeros(2, 3, 50, device="meta"), lambda: torch.tensor(5),
    lambda: torch.nn.Parameter(torch.ones(2, 2)), lambda: tf.complex([[1.0]], [[1.0]]),
]  # fmt: skip
odd_tensors = st.sampled_from(ODD_TENSORS).map(lambda make: make())


def _as_tensor(array: np.ndarray) -> Any:
    try:
        return tf.constant(array)
    except (TypeError, ValueError):  # TensorFlow has no such tensor
        return array


@st.composite
def string_tensors(draw: st.DrawFn) -> tf.Tensor:
    """Tokens as they should be, of any text."""
    rows = draw(st.lists(sentences, min_size=1, max_size=3))
    encoded = [[token.encode("utf-8", "ignore") for token in row] for row in rows]
    return tf.ragged.constant(encoded, ragged_rank=1, dtype=tf.string).to_tensor()


dense_tensors = arrays().map(_as_tensor) | character_ids().map(_as_tensor) | string_tensors()
inputs = dense_tensors | dense_tensors | odd_tensors | anything
