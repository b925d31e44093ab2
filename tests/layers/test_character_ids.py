"""CharacterIds is `batch_to_ids` in TensorFlow: the same ids, wherever it runs."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from layers.harness import SENTENCES, keras_mask, tokens

from bridge import CharacterIds, batch_to_ids
from bridge.errors import InputTypeError, InputValueError

# Longer than the 48 bytes of a token, and cut inside a character; zero bytes; special tokens, and nearly so.
ODD_TOKENS = ["x" * 48, "x" * 49, "é" * 24, "x" + "é" * 24, "\0", "a\0", "\x7f", "<S>", "</S>", "<s>", " ", "日本語"]

# Any text but "" (padding here) and lone surrogates (TensorFlow's strings have none).
any_token = st.sampled_from(ODD_TOKENS) | st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60)
any_batch = st.lists(st.lists(any_token, max_size=5), min_size=1, max_size=4)
any_special_tokens = st.none() | st.dictionaries(any_token, st.integers(0, 260), max_size=3)


@settings(max_examples=100)
@given(any_batch, any_special_tokens)
def test_equals_batch_to_ids(sentences: list[list[str]], tokens_to_add: dict[str, int] | None) -> None:
    if tokens_to_add:
        sentences = [*sentences, list(tokens_to_add)]
    ids = CharacterIds(tokens_to_add)(tokens(sentences))
    assert ids.dtype == tf.int32
    np.testing.assert_array_equal(ids, batch_to_ids(sentences, tokens_to_add=tokens_to_add))


def test_the_empty_string_is_padding() -> None:
    """Unlike in `batch_to_ids`, where it is a token: a tensor of strings has no other way to be ragged."""
    ids = CharacterIds()(tf.constant([["a", ""], ["", ""]])).numpy()
    np.testing.assert_array_equal(ids.any(axis=-1), [[True, False], [False, False]])
    assert batch_to_ids([["a", ""]]).any(axis=-1).all()


def test_tokens_to_add_cannot_turn_padding_into_a_token() -> None:
    assert not CharacterIds({"": 4})(tf.constant([[""]])).numpy().any()


@pytest.mark.parametrize("shape", [(0, 3), (2, 0), (0, 0)])
def test_empty_batches(shape: tuple[int, int]) -> None:
    ids = CharacterIds()(tf.zeros(shape, tf.string))
    assert (tuple(ids.shape), ids.dtype) == ((*shape, 50), tf.int32)


@pytest.mark.parametrize("dtype", ["U", "S", "O"])
def test_numpy_strings(dtype: str) -> None:
    array = np.array([["The", "cat"], ["Hello", ""]], dtype=dtype)
    layer = CharacterIds()
    np.testing.assert_array_equal(layer(array), batch_to_ids([["The", "cat"], ["Hello"]]))
    np.testing.assert_array_equal(layer.compute_mask(array), [[True, True], [True, False]])


def test_inside_tf_data() -> None:
    dataset = tf.data.Dataset.from_tensor_slices(tf.ragged.constant(SENTENCES)).batch(2)
    dataset = dataset.map(lambda rows: rows.to_tensor()).map(CharacterIds(), num_parallel_calls=2)
    assert dataset.element_spec.shape.as_list() == [None, None, 50]
    [ids] = list(dataset)
    np.testing.assert_array_equal(ids, batch_to_ids(SENTENCES))


def test_inside_a_model_the_mask_reaches_the_next_layer() -> None:
    inputs = keras.Input((None,), dtype="string")
    ids = CharacterIds()(inputs)
    counts = CountUnmasked()(ids)
    model = keras.Model(inputs, [ids, counts])
    predicted, counted = model.predict(tokens(SENTENCES), verbose=0)
    np.testing.assert_array_equal(predicted, batch_to_ids(SENTENCES))
    np.testing.assert_array_equal(counted, [3, 1])


class CountUnmasked(keras.layers.Layer):
    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> None:
        return None

    def call(self, inputs: tf.Tensor, mask: Any = None) -> tf.Tensor:
        return tf.reduce_sum(tf.cast(mask, tf.int32), axis=-1)

    def compute_output_spec(self, inputs: keras.KerasTensor, mask: Any = None) -> keras.KerasTensor:
        return keras.KerasTensor(inputs.shape[:1], "int32")


def test_an_incoming_mask_cuts_the_mask() -> None:
    strings = tokens(SENTENCES)
    strings._keras_mask = tf.constant([[True, True, False], [True, True, True]])
    ids = CharacterIds()(strings)
    np.testing.assert_array_equal(keras_mask(ids), [[True, True, False], [True, False, False]])
    np.testing.assert_array_equal(ids, batch_to_ids(SENTENCES))


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16", "float64"])
def test_no_dtype_policy_touches_ids(policy: str) -> None:
    """bfloat16 has no 257: it would silently become 256."""
    ids = CharacterIds(dtype=policy)(tf.constant([["<S>", "x"]]))
    assert ids.dtype == tf.int32
    np.testing.assert_array_equal(ids, batch_to_ids([["<S>", "x"]]))
    np.testing.assert_array_equal(keras_mask(ids), [[True, True]])


def test_the_config_is_plain_json_even_of_numpy_integers() -> None:
    special: dict[str, Any] = {"<unk>": np.int64(1)}
    assert type(CharacterIds(special).get_config()["tokens_to_add"]["<unk>"]) is int


WRONG_INPUTS: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    # what: the input, the error, part of its text
    "list of token lists": (lambda: SENTENCES, InputTypeError, r"type list.*`bridge\.to_tensor\(values\)`"),
    "tuple": (lambda: ("a", "b"), InputTypeError, "type tuple"),
    "one string": (lambda: "The cat", InputTypeError, "type str"),
    "dict": (lambda: {"tokens": tokens(SENTENCES)}, InputTypeError, "type dict"),
    "None": (lambda: None, InputTypeError, "type NoneType"),
    "ragged": (lambda: tf.ragged.constant(SENTENCES), InputTypeError, r"RaggedTensor.*inputs\.to_tensor\(\)"),
    "sparse": (lambda: tf.sparse.from_dense(tokens(SENTENCES)), InputTypeError, "SparseTensor.*to_dense"),
    "word ids": (lambda: np.array([[1, 2]]), InputTypeError, r"Received: dtype int64.*keras\.Input\(\(None,\)"),
    "floats": (lambda: np.zeros((2, 3)), InputTypeError, "Received: dtype float64"),
    "one sentence": (lambda: tf.constant(["The", "cat"]), InputValueError, r"Received: shape \(2,\)"),
    "rank 4": (lambda: tf.constant([[[["a"]]]]), InputValueError, r"Received: shape \(1, 1, 1, 1\)"),
    "model of word ids": (lambda: keras.Input((None,), dtype="int32"), InputTypeError, "Received: dtype int32"),
    "model of sentences": (lambda: keras.Input((), dtype="string"), InputValueError, r"shape \(None,\)"),
}


@pytest.mark.parametrize("case", WRONG_INPUTS)
def test_wrong_inputs(case: str) -> None:
    make_inputs, error, text = WRONG_INPUTS[case]
    with pytest.raises(error, match=rf"(?s)`inputs` must be .*{text}"):
        CharacterIds()(make_inputs())


@pytest.mark.parametrize(
    ("tokens_to_add", "error"),
    [
        (["a"], InputTypeError),
        ({"a": "b"}, InputTypeError),
        ({"a": 261}, InputValueError),
        ({"a": -1}, InputValueError),
    ],
)
def test_wrong_tokens_to_add(tokens_to_add: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="`tokens_to_add` must"):
        CharacterIds(tokens_to_add)


def test_passages() -> None:
    passages = tf.constant([[["The", "cat"], ["é", ""]], [["", ""], ["<S>", "x"]]])
    layer = CharacterIds()
    ids = layer(passages)
    assert ids.shape == (2, 2, 2, 50)
    for row in range(2):
        np.testing.assert_array_equal(ids[row], layer(passages[row]))
    np.testing.assert_array_equal(layer.compute_mask(passages), passages != "")
    assert layer(keras.Input((None, None), dtype="string")).shape == (None, None, None, 50)
