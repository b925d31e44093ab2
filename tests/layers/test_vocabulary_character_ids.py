"""VocabularyCharacterIds is `batch_to_ids` of the words that ids stand for, wherever it runs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from layers.harness import SENTENCES, assert_close, keras_mask, tokens

from bridge import ElmoConfig, ElmoEmbedding, VocabularyCharacterIds, batch_to_ids
from bridge.errors import BridgeError, InputTypeError, InputValueError, ResourceNotFoundError

WORDS = ["", "[UNK]", "The", "cat", "sat", "Hello"]
IDS = np.array([[2, 3, 4], [5, 0, 0]])  # of SENTENCES
PASSAGES = [SENTENCES, [["sat"], []]]

odd_words = st.sampled_from(["x" * 49, "x" + "é" * 24, "\0", "<S>", "</S>", " ", "\u2028", "日本語"])
any_word = odd_words | st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60)


def numbered(sentences: list[list[str]], words: list[str]) -> np.ndarray:
    """Word ids `(batch, timesteps)`, padded with 0."""
    ids = np.zeros((len(sentences), max(map(len, sentences))), dtype=np.int32)
    for row, sentence in enumerate(sentences):
        ids[row, : len(sentence)] = [words.index(word) for word in sentence]
    return ids


@settings(max_examples=50)
@given(st.lists(any_word, min_size=1, max_size=6), st.data())
def test_equals_batch_to_ids(words: list[str], data: st.DataObject) -> None:
    """With any words, also the same one twice."""
    sentences = data.draw(st.lists(st.lists(st.sampled_from(words), max_size=5), min_size=1, max_size=4))
    ids = VocabularyCharacterIds(["", *words], tokens_to_add={"The": 3})(numbered(sentences, ["", *words]))
    assert ids.dtype == tf.int32
    np.testing.assert_array_equal(ids, batch_to_ids(sentences, tokens_to_add={"The": 3}))


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"])
def test_every_integer_dtype(dtype: str) -> None:
    ids = VocabularyCharacterIds(WORDS)(tf.constant(IDS, dtype))
    np.testing.assert_array_equal(ids, batch_to_ids(SENTENCES))
    np.testing.assert_array_equal(keras_mask(ids), IDS != 0)


def test_further_axes() -> None:
    ids = np.array([[[2, 3, 4], [5, 0, 0]], [[4, 0, 0], [0, 0, 0]]])
    layer = VocabularyCharacterIds(WORDS)
    wanted = [batch_to_ids(passages, 3) for passages in PASSAGES]
    np.testing.assert_array_equal(layer(ids), wanted)
    np.testing.assert_array_equal(keras_mask(layer(ids)), ids != 0)
    assert layer(keras.Input((2, None), dtype="int32")).shape == (None, 2, None, 50)
    np.testing.assert_array_equal(tf.function(layer)(tf.constant(ids)), wanted)


@pytest.mark.parametrize("shape", [(0, 3), (2, 0), (0, 0), (2, 0, 3)])
def test_empty_batches(shape: tuple[int, ...]) -> None:
    layer = VocabularyCharacterIds(WORDS)
    assert layer(tf.zeros(shape, tf.int32)).shape == (*shape, 50)
    assert tf.function(layer)(tf.zeros(shape, tf.int32)).shape == (*shape, 50)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16", "float16"])
def test_no_dtype_policy_touches_ids(policy: str) -> None:
    """bfloat16 has no 257 and float16 no 2049: the neighbour's word would silently come out."""
    words = [f"word{number}" for number in range(5000)]
    ids = np.array([[257, 2049, 4999]])
    keras.config.set_dtype_policy(policy)
    try:
        inputs = keras.Input((None,), dtype="int32")
        model = keras.Model(inputs, VocabularyCharacterIds(["", *words[1:]])(inputs))
    finally:
        keras.config.set_dtype_policy("float32")
    wanted = batch_to_ids([["word257", "word2049", "word4999"]])
    np.testing.assert_array_equal(model.predict(ids, verbose=0), wanted)
    np.testing.assert_array_equal(VocabularyCharacterIds(["", *words[1:]], dtype=policy)(ids), wanted)


def test_an_incoming_mask_cuts_the_mask() -> None:
    ids = tf.constant(IDS)
    ids._keras_mask = tf.constant([[True, True, False], [True, True, True]])
    np.testing.assert_array_equal(
        keras_mask(VocabularyCharacterIds(WORDS)(ids)), [[True, True, False], [True, False, False]]
    )


def test_inside_tf_data() -> None:
    dataset = tf.data.Dataset.from_tensor_slices(IDS).batch(2).map(VocabularyCharacterIds(WORDS), num_parallel_calls=2)
    assert dataset.element_spec.shape.as_list() == [None, 3, 50]
    np.testing.assert_array_equal(next(iter(dataset)), batch_to_ids(SENTENCES))


@pytest.mark.slow
def test_text_vectorization_in_the_same_model(small: ElmoConfig) -> None:
    """The way of a Keras tutorial, from sentences to a fit; ELMo sees the words and their mask."""
    vectorize = keras.layers.TextVectorization(output_mode="int", standardize=None)
    vectorize.adapt(["The cat sat", "Hello"])
    inputs = keras.Input((), dtype="string")
    vectors = ElmoEmbedding(small, dropout=0.0)(VocabularyCharacterIds(vectorize)(vectorize(inputs)))
    model = keras.Model(inputs, keras.layers.Dense(1)(keras.layers.LSTM(4)(vectors)))
    model.compile("sgd", "mse")
    sentences = tf.constant([" ".join(words) for words in SENTENCES])
    model.fit(sentences, np.ones((2, 1)), verbose=0)
    between = keras.Model(inputs, vectors).predict(sentences, verbose=0)
    assert_close(between, model.get_layer(index=3)(tokens(SENTENCES)), 1e-6)


@pytest.mark.slow
def test_it_takes_the_place_of_an_embedding(small: ElmoConfig) -> None:
    """Padding is masked all the way to the loss, as with `Embedding(mask_zero=True)`."""
    model = keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            VocabularyCharacterIds(WORDS),
            ElmoEmbedding(small, dropout=0.0),
            keras.layers.Bidirectional(keras.layers.LSTM(4)),
        ]
    )
    wider = np.pad(IDS, [[0, 0], [0, 4]])
    assert_close(model.predict(wider, verbose=0), model.predict(IDS, verbose=0), 1e-6)
    assert len(model.layers[0].weights) == 0


VOCABULARIES: dict[str, Callable[[], Any]] = {
    "list": lambda: WORDS,
    "tuple": lambda: tuple(WORDS),
    "array of strings": lambda: np.array(WORDS),
    "array of objects": lambda: np.array(WORDS, dtype=object),
    "TextVectorization": lambda: keras.layers.TextVectorization(vocabulary=WORDS[2:]),
    "StringLookup": lambda: keras.layers.StringLookup(vocabulary=WORDS[2:], mask_token=""),
    "get_vocabulary": lambda: [*keras.layers.TextVectorization(vocabulary=WORDS[2:]).get_vocabulary()],
}


@pytest.mark.parametrize("kind", VOCABULARIES)
def test_vocabularies(kind: str) -> None:
    vocabulary = VOCABULARIES[kind]()
    layer = VocabularyCharacterIds(vocabulary)
    assert layer.vocabulary == WORDS
    if isinstance(vocabulary, keras.layers.Layer):
        sentences = tf.constant(["The cat", "Hello Hello"]) if kind == "TextVectorization" else tokens(SENTENCES)
        vocabulary.standardize = None
        ids = vocabulary(sentences)
        words = vocabulary.get_vocabulary()
        wanted = [[words[number] for number in row if number] for row in ids.numpy()]
        np.testing.assert_array_equal(layer(ids), batch_to_ids(wanted))


def test_several_unknown_words_of_a_lookup() -> None:
    lookup = keras.layers.StringLookup(vocabulary=["The", "cat"], mask_token="", num_oov_indices=2)
    layer = VocabularyCharacterIds(lookup)
    assert layer.vocabulary == ["", "[UNK]", "[UNK]", "The", "cat"]
    ids = layer(lookup(tf.constant([["cat", "dog", ""]])))
    np.testing.assert_array_equal(ids, batch_to_ids([["cat", "[UNK]"]], 3))


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("last", [True, False])
def test_a_file(ending: str, mark: str, last: bool, tmp_path: Path) -> None:
    words = ["", "The", "日本語", "a\u2028b", " "]  # `splitlines` would cut the fourth
    file = tmp_path / "words.txt"
    file.write_bytes((mark + ending.join(words) + ending * last).encode())
    assert VocabularyCharacterIds(file).vocabulary == VocabularyCharacterIds(str(file)).vocabulary == words


def test_lone_surrogates_are_left_out_as_in_batch_to_ids() -> None:
    ids = VocabularyCharacterIds(["", "a\ud800b"])(np.array([[1]]))
    np.testing.assert_array_equal(ids, batch_to_ids([["a\ud800b"]]))


def test_saved_and_cloned_without_the_file(tmp_path: Path) -> None:
    file = tmp_path / "words.txt"
    file.write_text("\n".join(WORDS), "utf-8")
    model = keras.Sequential([keras.Input((None,), dtype="int32"), VocabularyCharacterIds(file, {"cat": 7})])
    file.unlink()
    model.save(tmp_path / "model.keras")
    for again in (keras.models.load_model(tmp_path / "model.keras"), keras.models.clone_model(model)):
        np.testing.assert_array_equal(again.predict(IDS, verbose=0), batch_to_ids(SENTENCES, tokens_to_add={"cat": 7}))


def test_the_words_are_neither_weights_nor_part_of_a_graph() -> None:
    layer = VocabularyCharacterIds(["", *(f"word{number}" for number in range(20_000))])
    model = keras.Sequential([keras.Input((None,), dtype="int32"), layer])
    assert model.count_params() == 0
    assert not model.weights
    graph = tf.function(layer).get_concrete_function(tf.TensorSpec([None, None], tf.int32)).graph
    assert len(graph.as_graph_def().SerializeToString()) < 50_000


@pytest.mark.parametrize("wrong", [-1, 6, 2**40])
def test_ids_without_a_word(wrong: int) -> None:
    layer = VocabularyCharacterIds(WORDS)
    ids = tf.constant([[2, wrong]], tf.int64)
    text = rf"from 0 to 5: the vocabulary has 6 words.*Received: the id {wrong}\. Give the vocabulary that made"
    with pytest.raises(InputValueError, match=text):
        layer(ids)
    with pytest.raises(tf.errors.InvalidArgumentError, match=text):
        tf.function(layer)(ids)
    with pytest.raises(tf.errors.InvalidArgumentError, match=text):
        list(tf.data.Dataset.from_tensors(ids).map(layer))
    model = keras.Sequential([keras.Input((None,), dtype="int64"), layer])
    with pytest.raises(tf.errors.InvalidArgumentError, match=text):
        model.predict(ids, verbose=0)
    np.testing.assert_array_equal(layer(IDS), batch_to_ids(SENTENCES))


WRONG_INPUTS: dict[str, tuple[Callable[[], Any], type[BridgeError], str]] = {
    # what: the input, the error, part of its text
    "floats": (lambda: IDS.astype("float32"), InputTypeError, "dtype float32. Cast the ids where they come from"),
    "no dtype": (lambda: keras.Input((None,)), InputTypeError, r'float32.*keras\.Input\(\(None,\), dtype="int32"\)'),
    "rounded ids": (lambda: tf.constant([[256.0]], tf.bfloat16), InputTypeError, "bfloat16 has no 257"),
    "bools": (lambda: IDS > 0, InputTypeError, "dtype bool"),
    "strings": (lambda: tokens(SENTENCES), InputTypeError, "dtype string. Give string tokens to `ElmoEmbedding`"),
    "model of strings": (lambda: keras.Input((None,), dtype="string"), InputTypeError, "dtype string"),
    "one sentence": (lambda: IDS[0], InputValueError, r"shape \(3,\). A single sentence is a batch of one"),
    "model of one sentence": (lambda: keras.Input((), dtype="int32"), InputValueError, r"shape \(None,\)"),
    "list": (IDS.tolist, InputTypeError, r"type list\. `bridge\.to_tensor\(values\)`"),
    "ragged": (lambda: tf.ragged.constant([[1], [2, 3]]), InputTypeError, r"RaggedTensor.*inputs\.to_tensor\(\)"),
}


@pytest.mark.parametrize("case", WRONG_INPUTS)
def test_wrong_inputs(case: str) -> None:
    make_inputs, error, text = WRONG_INPUTS[case]
    with pytest.raises(error, match=rf"(?s)`inputs` must be .*Received: .*{text}"):
        VocabularyCharacterIds(WORDS)(make_inputs())


@pytest.mark.parametrize(("dtype", "size", "fits"), [("int8", 128, True), ("int8", 129, False), ("uint8", 257, False)])
def test_dtypes_that_cannot_hold_the_ids(dtype: str, size: int, fits: bool) -> None:
    layer = VocabularyCharacterIds(["", *map(str, range(size - 1))])
    if fits:
        np.testing.assert_array_equal(layer(np.array([[127]], dtype)), batch_to_ids([["126"]]))
    else:
        with pytest.raises(InputTypeError, match=rf"from 0 to {size - 1}. Received: dtype {dtype}; ids above"):
            layer(keras.Input((None,), dtype=dtype))


WRONG_VOCABULARIES: dict[str, tuple[Callable[[], Any], type[BridgeError], str]] = {
    "no padding": (lambda: ["the", "cat"], InputValueError, "'the' as the first of 2.*if ids begin at 1"),
    "padding by name": (lambda: ["<pad>", "the"], InputValueError, "'<pad>'.*of another name, replace it"),
    "StringLookup without a mask": (
        lambda: keras.layers.StringLookup(vocabulary=["the"]),
        InputValueError,
        "'\\[UNK\\]' as the first .*`mask_token=\"\"`",
    ),
    "empty": (lambda: [], InputValueError, "no words at all"),
    "only padding": (lambda: [""], InputValueError, "only padding"),
    "padding twice": (lambda: ["", "a", ""], InputValueError, "as the word of id 2 too"),
    "nothing but surrogates": (lambda: ["", "\ud800"], InputValueError, "as the word of id 1 too"),
    "numbers": (lambda: ["", 3], InputTypeError, "3 of type int as the word of id 1"),
    "bytes": (lambda: ["", b"a"], InputTypeError, "of type bytes"),
    "None": (lambda: None, InputTypeError, "type NoneType"),
    "dict": (lambda: {"the": 1}, InputTypeError, r'type dict.*\["", \*sorted\(word_index, key=word_index\.get\)\]'),
    "set": (lambda: {"", "a"}, InputTypeError, "type set"),
    "IntegerLookup": (lambda: keras.layers.IntegerLookup(vocabulary=[3]), InputTypeError, "-1 of type int"),
    "another layer": (lambda: keras.layers.Dense(1), InputTypeError, "the Dense 'dense.*"),
    "not ids": (
        lambda: keras.layers.TextVectorization(output_mode="multi_hot", vocabulary=["a"]),
        InputTypeError,
        "output_mode='multi_hot'",
    ),
    "not adapted": (keras.layers.TextVectorization, InputValueError, "Call its `adapt`"),
}


@pytest.mark.parametrize("case", WRONG_VOCABULARIES)
def test_wrong_vocabularies(case: str) -> None:
    make_vocabulary, error, text = WRONG_VOCABULARIES[case]
    with pytest.raises(error, match=rf"(?s)`vocabulary` must .*Received: .*{text}"):
        VocabularyCharacterIds(make_vocabulary())


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"the\ncat\n", r"must begin with \"\" \(in a file, with an empty line\).*'the' as the first of 2"),
        (b"\nthe\n\ncat\n", "as the word of id 2 too.*no empty line after the first"),
        (b"", "Received: only padding"),
        (b"\ncaf\xe9\n", "must be UTF-8"),
    ],
)
def test_wrong_files(content: bytes, text: str, tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_bytes(content)
    with pytest.raises(InputValueError, match=rf"(?s)`vocabulary`, .*words\.txt.*{text}"):
        VocabularyCharacterIds(tmp_path / "words.txt")


def test_no_file(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.txt", "the"):
        with pytest.raises(ResourceNotFoundError, match=r"`vocabulary` must be the path of a file .* Received: "):
            VocabularyCharacterIds(path)
