"""to_tensor makes of everything that people have what Keras takes: the same tensor as the plain lists would."""

import copy
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import keras
import numpy as np
import pandas
import pytest
import tensorflow as tf
import torch
from hypothesis import given
from hypothesis import strategies as st
from layers.harness import SENTENCES

from bridge import ElmoConfig, ElmoEmbedding, VocabularyCharacterIds, WhitespaceTokenizer, batch_to_ids, to_tensor
from bridge.errors import BridgeError, InputTypeError, InputValueError

TOKENS = [["The", "cat", "sat"], ["Hello"]]
PADDED = np.array([[b"The", b"cat", b"sat"], [b"Hello", b"", b""]], dtype=object)
WORDS = ["", "The", "cat", "sat", "Hello"]
WORD_IDS = [[1, 2, 3], [4]]
PADDED_IDS = [[1, 2, 3], [4, 0, 0]]
PASSAGES = [[["The", "cat"], []], [["Hello"]]]
PADDED_PASSAGES = np.array([[[b"The", b"cat"], [b"", b""]], [[b"Hello", b""], [b"", b""]]], dtype=object)
CHARACTERS = batch_to_ids(TOKENS)


def objects(*values: Any) -> np.ndarray:
    """An object array `(len(values),)`, whatever the values are."""
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def check(values: Any, wanted: Any, dtype: str, **arguments: Any) -> None:
    tensor = to_tensor(values, **arguments)
    assert isinstance(tensor, tf.Tensor)
    assert tensor.dtype == dtype
    # Not `S5` and the like, which lose a NUL at the end.
    np.testing.assert_array_equal(tensor, np.asarray(wanted, dtype=object if dtype == "string" else None))


TOKEN_LISTS: dict[str, Callable[[], Any]] = {
    "lists": lambda: TOKENS,
    "tuples": lambda: tuple(map(tuple, TOKENS)),
    "bytes": lambda: [[token.encode() for token in row] for row in TOKENS],
    "strings and bytes": lambda: [["The", b"cat", "sat"], [b"Hello"]],
    "NumPy strings": lambda: [[np.str_(token) for token in row] for row in TOKENS],
    "<U array, padded": lambda: np.array([["The", "cat", "sat"], ["Hello", "", ""]]),
    "S array, padded": lambda: np.array([["The", "cat", "sat"], ["Hello", "", ""]], dtype="S"),
    "object array, padded": lambda: np.array([["The", "cat", "sat"], ["Hello", "", ""]], dtype=object),
    "StringDType array": lambda: np.array([["The", "cat", "sat"], ["Hello", "", ""]], dtype=np.dtypes.StringDType()),
    "object array of lists": lambda: objects(*TOKENS),
    "object array of arrays": lambda: objects(*map(np.array, TOKENS)),
    "list of arrays": lambda: [np.array(row) for row in TOKENS],
    "list of tensors": lambda: [tf.constant(row) for row in TOKENS],
    "list of Series": lambda: [pandas.Series(row, index=range(7, 7 + len(row))) for row in TOKENS],
    "RaggedTensor": lambda: tf.ragged.constant(TOKENS),
    "tensor": partial(tf.constant, PADDED),
    "Series of lists": lambda: pandas.Series(TOKENS, index=[3, 3]),
    "Series of arrays": lambda: pandas.Series([np.array(row) for row in TOKENS]),
    "column split by pandas": pandas.DataFrame({"text": ["The cat sat", "Hello"]})["text"].str.split,
}


@pytest.mark.parametrize("kind", TOKEN_LISTS)
def test_token_lists(kind: str) -> None:
    check(TOKEN_LISTS[kind](), PADDED, "string")
    check(TOKEN_LISTS[kind](), PADDED[:, :2], "string", max_sequence_length=2)
    check(TOKEN_LISTS[kind](), np.pad(PADDED, [[0, 0], [0, 1]], constant_values=b""), "string", max_sequence_length=4)


@pytest.mark.parametrize(
    "values",
    [
        ["The cat", "Hello"],
        np.array(["The cat", "Hello"]),
        np.array(["The cat", "Hello"], dtype="S"),
        np.array(["The cat", "Hello"], dtype=object),
        pandas.Series(["The cat", "Hello"]),
        pandas.Series(["The cat", "Hello"], dtype="string"),
        pandas.Series(["The cat", "Hello"], dtype="category"),
        pandas.Series(["The cat", "Hello"]).array,
        pandas.Index(["The cat", "Hello"]),
        tf.constant(["The cat", "Hello"]),
    ],
    ids=lambda values: type(values).__name__,
)
def test_sentences(values: Any) -> None:
    check(values, [b"The cat", b"Hello"], "string")


WORD_ID_LISTS: dict[str, Callable[[], Any]] = {
    "lists": lambda: WORD_IDS,
    "NumPy integers": lambda: [[np.int64(number) for number in row] for row in WORD_IDS],
    "arrays": lambda: [np.array(row, dtype=np.uint8) for row in WORD_IDS],
    "an empty array among them": lambda: [*WORD_IDS, np.array([])],
    "int64 array": lambda: np.array(PADDED_IDS),
    "int8 array": lambda: np.array(PADDED_IDS, dtype=np.int8),
    "int32 array": lambda: np.array(PADDED_IDS, dtype=np.int32),
    "PyTorch": lambda: torch.tensor(PADDED_IDS),
    "object array": lambda: objects(*WORD_IDS),
    "Series": lambda: pandas.Series(WORD_IDS),
    "pad_sequences": lambda: keras.utils.pad_sequences(WORD_IDS, padding="post"),
    "RaggedTensor": lambda: tf.ragged.constant(WORD_IDS),
}


@pytest.mark.parametrize("kind", WORD_ID_LISTS)
def test_word_ids(kind: str) -> None:
    values = WORD_ID_LISTS[kind]()
    rows = PADDED_IDS + [[0, 0, 0]] * (len(values) - 2 if isinstance(values, list) else 0)
    check(values, rows, "int32")
    check(values, np.array(rows)[:, :1], "int32", max_sequence_length=1)


@pytest.mark.parametrize(
    "make",
    [
        lambda: CHARACTERS,
        lambda: CHARACTERS.astype(np.int64),
        CHARACTERS.tolist,
        lambda: [CHARACTERS[0], CHARACTERS[1, :1]],
        lambda: objects(CHARACTERS[0], CHARACTERS[1, :1].tolist()),
        lambda: [list(CHARACTERS[0]), list(CHARACTERS[1, :1])],
    ],
)
def test_character_ids(make: Callable[[], Any]) -> None:
    check(make(), CHARACTERS, "int32")
    check(make(), CHARACTERS[:, :2], "int32", max_sequence_length=2)
    check(make(), batch_to_ids(TOKENS, 5), "int32", max_sequence_length=5)


def test_passages() -> None:
    check(PASSAGES, PADDED_PASSAGES, "string")
    check(PASSAGES, PADDED_PASSAGES[..., :1], "string", max_sequence_length=1)
    check(pandas.Series(PASSAGES), PADDED_PASSAGES, "string")
    check(tf.ragged.constant(PASSAGES), PADDED_PASSAGES, "string")
    check([[[1, 2], []], [[3]]], [[[1, 2], [0, 0]], [[3, 0], [0, 0]]], "int32")
    wanted = np.stack([batch_to_ids(TOKENS), np.pad(batch_to_ids(SENTENCES[:1]), [[0, 1], [0, 0], [0, 0]])])
    check([batch_to_ids(TOKENS), batch_to_ids(SENTENCES[:1])], wanted, "int32")
    check(wanted, wanted[:, :, :2], "int32", max_sequence_length=2)


def test_at_least_one_timestep() -> None:
    check([[], []], [[b""], [b""]], "string")
    check([[[]], []], [[[b""]], [[b""]]], "string")
    check(np.zeros((2, 0), dtype=int), [[0], [0]], "int32")
    check(batch_to_ids([[]]), np.zeros((1, 1, 50)), "int32")
    check(tf.zeros([2, 0], tf.string), [[b""], [b""]], "string")


def test_a_tensor_is_passed_through() -> None:
    for tensor in (tf.constant(PADDED_IDS, tf.int64), tf.constant(["a b"]), tf.constant([["a", ""]])):
        assert to_tensor(tensor) is tensor


words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=5)


@given(st.lists(st.lists(words, max_size=4), min_size=1, max_size=4), st.none() | st.integers(1, 5))
def test_any_token_lists(sentences: list[list[str]], length: int | None) -> None:
    timesteps = length or max(1, *map(len, sentences), 0)
    rows = [[word.encode() for word in row[:timesteps]] for row in sentences]
    check(sentences, [row + [b""] * (timesteps - len(row)) for row in rows], "string", max_sequence_length=length)


@given(st.lists(st.lists(st.integers(1, 2**31 - 1), max_size=4), min_size=1, max_size=4).filter(any))
def test_any_word_ids(sentences: list[list[int]]) -> None:
    timesteps = max(map(len, sentences))
    check(sentences, [row + [0] * (timesteps - len(row)) for row in sentences], "int32")


def test_what_is_given_stays_as_it_is() -> None:
    lists, array, column = [["a"], ["b", "c"]], np.array(PADDED_IDS, dtype=np.int32), pandas.Series([["a"], ["b", "c"]])
    before = copy.deepcopy((lists, array, column.tolist()))
    for values in (lists, column):
        to_tensor(values)
    tensor = to_tensor(array)
    assert (lists, column.tolist()) == (before[0], before[2])
    array[:] = 9
    np.testing.assert_array_equal(tensor, before[1])


def test_in_a_dataset() -> None:
    dataset = tf.data.Dataset.from_tensor_slices(tf.ragged.constant(TOKENS)).batch(2).map(to_tensor)
    np.testing.assert_array_equal(next(iter(dataset)), PADDED)
    cut = tf.data.Dataset.from_tensor_slices(tf.ragged.constant(WORD_IDS)).batch(2).map(lambda rows: to_tensor(rows, 2))
    assert cut.element_spec.shape.as_list() == [None, 2]
    np.testing.assert_array_equal(next(iter(cut)), np.array(PADDED_IDS)[:, :2])


@pytest.mark.slow
def test_straight_into_fit_and_predict(small: ElmoConfig) -> None:
    """Each kind of input, in the model for it; all see the same two sentences."""
    elmo = ElmoEmbedding(small, dropout=0.0)
    models = {
        "tokens": (TOKENS, [keras.Input((None,), dtype="string")]),
        "sentences": (
            pandas.Series(["The cat sat", "Hello"]),
            [keras.Input((), dtype="string"), WhitespaceTokenizer()],
        ),
        "word ids": (WORD_IDS, [keras.Input((None,), dtype="int32"), VocabularyCharacterIds(WORDS)]),
        "character ids": (CHARACTERS, [keras.Input((None, 50), dtype="int32")]),
    }
    predictions = []
    for values, layers in models.values():
        model = keras.Sequential([*layers, elmo, keras.layers.LSTM(2, kernel_initializer="ones")])
        model.compile(keras.optimizers.SGD(0.0), "mse")
        model.fit(to_tensor(values), np.ones((2, 2)), verbose=0)
        model.layers[-1].set_weights([np.ones((12, 8)) / 9, np.ones((2, 8)) / 9, np.zeros(8)])
        predictions.append(model.predict(to_tensor(values), verbose=0))
    for prediction in predictions[1:]:
        np.testing.assert_allclose(prediction, predictions[0], rtol=0, atol=1e-6)


WRONG: dict[str, tuple[Callable[[], Any], type[BridgeError], str]] = {
    # what: the values, the error, part of its text
    "a sentence": (lambda: "The cat", InputTypeError, "'The cat' of type str. A single sentence is a batch of one"),
    "None": (lambda: None, InputTypeError, "None of type NoneType. Make it a list"),
    "dict": (lambda: {"text": TOKENS}, InputTypeError, "type dict. Make it a list"),
    "set": (lambda: {"a", "b"}, InputTypeError, "type set"),
    "generator": (lambda: (row for row in TOKENS), InputTypeError, "type generator"),
    "empty": (lambda: [], InputValueError, "Received: an empty one"),
    "empty array": (lambda: np.array([]), InputValueError, "Received: an empty one"),
    "missing token": (lambda: [["a"], ["b", None]], InputTypeError, r"None .* at values\[1\]\[1\]. It is a missing"),
    "missing sentence": (lambda: [["a"], None], InputTypeError, r"None .* at values\[1\]. It is a missing"),
    "not a number": (lambda: objects("a", np.nan), InputTypeError, r"nan .* at values\[1\]. It is a missing"),
    "missing id": (lambda: [[1, pandas.NA]], InputTypeError, r"at values\[0\]\[1\]. It is a missing"),
    "string among lists": (
        lambda: [["a"], "b c"],
        InputTypeError,
        r"'b c' of type str at values\[1\], beside \['a'\] of type list at values\[0\]. .* split every sentence",
    ),
    "number among strings": (
        lambda: [["a"], ["b", 3]],
        InputTypeError,
        r"3 of type int at values\[1\]\[1\], beside 'a'",
    ),
    "deep in a passage": (lambda: [[["a"], ["b"]], [[], ["c", 1]]], InputTypeError, r"values\[1\]\[1\]\[1\]"),
    "ragged depth": (lambda: [["a"], [["b"]]], InputTypeError, r"\['b'\] of type list at values\[1\]\[0\]"),
    "set of words": (lambda: [{"a", "b"}], InputTypeError, r"type set at values\[0\]. Only strings, integers"),
    "floats": (lambda: [[1, 2.0]], InputTypeError, r"2\.0 of type float at values\[0\]\[1\]. Ids are integers"),
    "float array": (lambda: np.ones((2, 3)), InputTypeError, "array of dtype float64 at values. Ids are integers"),
    "float rows": (lambda: [[1], np.array([2.0])], InputTypeError, r"dtype float64 at values\[1\]"),
    "float tensor": (lambda: tf.ones((2, 3)), InputTypeError, "dtype float32.*Ids are integers"),
    "bools": (lambda: [[True]], InputTypeError, r"True of type bool at values\[0\]\[0\]"),
    "bool array": (lambda: np.ones((2, 3), dtype=bool), InputTypeError, "dtype bool"),
    "dates": (lambda: np.array(["2020-01-01"], dtype="datetime64[ns]"), InputTypeError, "dtype datetime64"),
    "one number": (lambda: [np.array(5)], InputTypeError, r"without dimensions, 5, at values\[0\]"),
    "no dimensions": (lambda: np.array("a b"), InputTypeError, "without dimensions"),
    "flat ids": (lambda: [1, 2, 3], InputValueError, r"shape \(3,\). A single sentence is a batch of one: `\[ids\]`"),
    "too deep": (lambda: [[[["a"]]]], InputValueError, r"shape \(1, 1, 1, 1\). Passages"),
    "ids too deep": (lambda: [[[[1]]]], InputValueError, r"shape \(1, 1, 1, 1\)"),
    "negative id": (lambda: [[1], [2, -1]], InputValueError, r"Received: -1 at values\[1\]\[1\]"),
    "negative id in an array": (lambda: np.array([[1, 2], [3, -1]]), InputValueError, r"-1 at values\[1\]\[1\]"),
    "id above int32": (lambda: [[2**31]], InputValueError, r"to 2147483647. Received: 2147483648 at values\[0\]\[0\]"),
    "id above int64": (lambda: [[1, 2**70]], InputValueError, r"Received: 1180591620717411303424 at values\[0\]\[1\]"),
    "uint64": (lambda: np.array([[2**64 - 1]], dtype=np.uint64), InputValueError, "Received: 18446744073709551615"),
    "bytes that are no text": (lambda: [["a", b"caf\xe9"]], InputValueError, r"b'caf\\xe9' at values\[0\]\[1\]"),
    "array that is no text": (lambda: np.array([b"a", b"\xff"]), InputValueError, r"values\[1\], which is not. Read"),
    "half a character": (lambda: [["a\ud800"]], InputValueError, r"values\[0\]\[0\], which is not"),
    "empty token": (lambda: [["a"], ["b", "", "c"]], InputValueError, r"padding at values\[1\]\[1\], before a token"),
    "padded before": (lambda: keras.utils.pad_sequences(WORD_IDS), InputValueError, r"values\[1\]\[1\].*'post'"),
    "characters padded before": (lambda: CHARACTERS[:, ::-1], InputValueError, r"padding at values\[1\]\[1\]"),
    "tensor padded before": (lambda: tf.constant([["", "a"]]), InputValueError, r"padding at values\[0\]\[0\]"),
    "DataFrame": (lambda: pandas.DataFrame({"text": ["a"]}), InputTypeError, r"columns \['text'\]. Choose one"),
    "column with a hole": (
        lambda: pandas.Series(["a", "b", None], index=[7, 8, 9]),
        InputValueError,
        "missing value, .* in row 2, whose index label is 9. Drop such rows together with their labels",
    ),
    "string column with a hole": (lambda: pandas.Series(["a", None], dtype="string"), InputValueError, "in row 1"),
    "lists with a hole": (lambda: pandas.Series([["a"], None]), InputValueError, "missing value, None, in row 1"),
    "column of ids": (lambda: pandas.Series([1, 2]), InputValueError, r"shape \(2,\)"),
    "symbolic": (lambda: keras.Input((None,), dtype="string"), InputTypeError, "Received: a KerasTensor"),
    "sparse": (lambda: tf.sparse.from_dense([[1]]), InputTypeError, "Received: a SparseTensor"),
    "dataset": (lambda: tf.data.Dataset.range(3), InputTypeError, r"`dataset\.map\(to_tensor\)`"),
}


@pytest.mark.parametrize("case", WRONG)
def test_errors_name_the_place_and_the_remedy(case: str) -> None:
    make_values, error, text = WRONG[case]
    with pytest.raises(error, match=rf"(?s)^`values` must .*Received: .*{text}|^`values` must .*{text}"):
        to_tensor(make_values())


@pytest.mark.parametrize("length", [0, -1, 2.0, True])
def test_wrong_length(length: Any) -> None:
    with pytest.raises(BridgeError, match=r"`max_sequence_length` must be .*Received"):
        to_tensor(TOKENS, length)


def test_sentences_have_no_length_yet() -> None:
    with pytest.raises(InputValueError, match=r"`max_sequence_length` must be left out .*Received: 3 .*Whitespace"):
        to_tensor(["The cat"], 3)


def test_without_pandas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)  # as if it were not installed
    check(TOKENS, PADDED, "string")
