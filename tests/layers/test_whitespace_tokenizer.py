"""WhitespaceTokenizer is Python's `str.split()` in TensorFlow."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import example, given, settings
from hypothesis import strategies as st
from layers.harness import assert_close, keras_mask, tokens

from bridge import ElmoConfig, ElmoEmbedding, WhitespaceTokenizer
from bridge.errors import BridgeError, InputTypeError, InputValueError

SPACES = [chr(number) for number in range(sys.maxunicode + 1) if chr(number).isspace()]
# What looks like whitespace and is none for Python, or is half of one.
NEARLY_SPACES = ["\0", "\x1b", "\x7f", "\u180e", "\u200b", "\u2060", "\ufeff", "\u0300", "\u0100"]

any_character = st.sampled_from([*SPACES, *NEARLY_SPACES]) | st.characters(exclude_categories=["Cs"])
any_sentences = st.lists(st.text(any_character, max_size=20), min_size=1, max_size=5)


def split(sentences: list[str], length: int | None = None) -> np.ndarray:
    """The oracle: padded bytes `(batch, timesteps)`, at least one timestep."""
    rows = [[word.encode() for word in sentence.split()][:length] for sentence in sentences]
    timesteps = length or max(1, *map(len, rows), 0)
    return np.array([row + [b""] * (timesteps - len(row)) for row in rows], dtype=object)


@pytest.mark.slow
@settings(max_examples=200)
@given(any_sentences, st.none() | st.integers(1, 4))
@example(["\u3000a\x1cb\x85c\xa0\td", "", " \n", "\x0b"], None)
@example(["", " "], None)
def test_splits_as_python_does(sentences: list[str], length: int | None) -> None:
    layer = WhitespaceTokenizer(length)
    words = layer(tf.constant(sentences))
    np.testing.assert_array_equal(words, split(sentences, length))
    np.testing.assert_array_equal(keras_mask(words), split(sentences, length) != b"")


@pytest.mark.slow
def test_every_character_of_unicode() -> None:
    sentences = [f"a{chr(number)}b" for number in range(sys.maxunicode + 1) if not 0xD800 <= number < 0xE000]
    ours = WhitespaceTokenizer()(tf.constant(sentences)).numpy()
    np.testing.assert_array_equal(ours[:, -1] == b"b", [len(sentence.split()) == 2 for sentence in sentences])
    assert len(SPACES) == 29


@given(st.lists(st.binary(max_size=12), min_size=1, max_size=4))
def test_what_is_not_utf8_is_no_whitespace(sentences: list[bytes]) -> None:
    """As Python splits bytes that it read with `errors="surrogateescape"`."""
    read = [sentence.decode("utf-8", "surrogateescape").split() for sentence in sentences]
    wanted = [[word.encode("utf-8", "surrogateescape") for word in row] for row in read]
    ours = WhitespaceTokenizer()(tf.constant(sentences)).numpy()
    assert [[word for word in row if word] for row in ours.tolist()] == wanted


@pytest.mark.parametrize("dtype", ["U", "S", "O"])
def test_numpy_strings(dtype: str) -> None:
    layer = WhitespaceTokenizer()
    array = np.array(["The cat", "Hello"], dtype=dtype)
    np.testing.assert_array_equal(layer(array), split(["The cat", "Hello"]))
    np.testing.assert_array_equal(layer.compute_mask(array), [[True, True], [True, False]])


@pytest.mark.parametrize("shape", [(None,), (None, 1)])
def test_one_column_counts_as_a_batch(shape: tuple[int | None, ...]) -> None:
    sentences = tf.reshape(tf.constant(["a b", "", "c"]), [-1 if size is None else size for size in shape])
    wanted = split(["a b", "", "c"])
    np.testing.assert_array_equal(WhitespaceTokenizer()(sentences), wanted)
    np.testing.assert_array_equal(
        tf.function(WhitespaceTokenizer(), input_signature=[tf.TensorSpec(shape, tf.string)])(sentences), wanted
    )
    inputs = keras.Input(batch_shape=shape, dtype="string")
    np.testing.assert_array_equal(keras.Model(inputs, WhitespaceTokenizer()(inputs))(sentences), wanted)


@pytest.mark.parametrize("length", [None, 3])
def test_a_saved_model_and_its_shapes(length: int | None, tmp_path: Path) -> None:
    inputs = keras.Input((), dtype="string")
    model = keras.Model(inputs, WhitespaceTokenizer(length)(inputs))
    assert model.output.shape == (None, length)
    assert model.output.dtype == "string"
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    sentences = tf.constant(["The cat", "Hello"])
    np.testing.assert_array_equal(loaded(sentences), split(["The cat", "Hello"], length))
    graph = tf.function(loaded, input_signature=[tf.TensorSpec([None], tf.string)])
    assert graph.get_concrete_function().output_shapes.as_list() == [None, length]


def test_no_sentences() -> None:
    assert WhitespaceTokenizer()(tf.zeros([0], tf.string)).shape == (0, 1)
    assert WhitespaceTokenizer(3)(tf.zeros([0], tf.string)).shape == (0, 3)


def test_inside_tf_data() -> None:
    dataset = tf.data.Dataset.from_tensor_slices(["a b", "c"]).batch(2).map(WhitespaceTokenizer(), num_parallel_calls=2)
    assert dataset.element_spec.shape.as_list() == [None, None]
    np.testing.assert_array_equal(next(iter(dataset)), split(["a b", "c"]))


@pytest.mark.slow
def test_from_sentences_to_a_fit(small: ElmoConfig) -> None:
    """Also a batch of nothing but empty sentences, which a shuffle may bring about."""
    inputs = keras.Input((), dtype="string")
    vectors = ElmoEmbedding(small, dropout=0.0)(WhitespaceTokenizer()(inputs))
    model = keras.Model(inputs, keras.layers.Dense(1)(keras.layers.Bidirectional(keras.layers.LSTM(3))(vectors)))
    model.compile("sgd", "mse")
    history = model.fit(tf.constant(["The cat\u3000sat", "Hello", "", " "]), np.ones((4, 1)), batch_size=2, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    assert np.isfinite(model.predict(tf.constant(["", " "]), verbose=0)).all()
    given_tokens = model.get_layer(index=2)(tokens([["The", "cat", "sat"], ["Hello"]]))
    given_sentences = keras.Model(inputs, vectors).predict(tf.constant(["The cat sat", " Hello "]), verbose=0)
    assert_close(given_sentences, given_tokens, 1e-6)


WRONG_INPUTS: dict[str, tuple[Callable[[], Any], type[BridgeError], str]] = {
    # what: the input, the error, part of its text
    "a sentence": (lambda: "The cat", InputTypeError, "type str.*`bridge.to_tensor"),
    "list": (lambda: ["The cat", "Hello"], InputTypeError, "type list.*`bridge.to_tensor"),
    "numbers": (lambda: np.array([1]), InputTypeError, r"dtype int64.*`keras\.Input\(\(\), dtype=\"string\"\)`"),
    "no dtype": (lambda: keras.Input(()), InputTypeError, "dtype float32"),
    "tokens": (lambda: tf.constant([["a", "b"]]), InputValueError, r"shape \(1, 2\). Give string tokens"),
    "model of tokens": (lambda: keras.Input((None,), dtype="string"), InputValueError, r"\(None, None\)"),
    "one string": (lambda: tf.constant("a b"), InputValueError, r"shape \(\)"),
    "rank 3": (lambda: tf.constant([[["a"]]]), InputValueError, r"shape \(1, 1, 1\)"),
}


@pytest.mark.parametrize("case", WRONG_INPUTS)
def test_wrong_inputs(case: str) -> None:
    make_inputs, error, text = WRONG_INPUTS[case]
    with pytest.raises(error, match=rf"(?s)`inputs` must be .*raw sentences.*Received: .*{text}"):
        WhitespaceTokenizer()(make_inputs())


@pytest.mark.parametrize("length", [0, -1, 2.0, True, "3"])
def test_wrong_length(length: Any) -> None:
    with pytest.raises(BridgeError, match=r"`max_sequence_length` must be .*Received: "):
        WhitespaceTokenizer(length)
