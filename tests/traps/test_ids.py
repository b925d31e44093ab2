"""The traps of docs/troubleshooting.md, "Ids and tokens": each test has the name of its entry."""

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
import torch
from traps.oracle import assert_rows

from bridge import ElmoConfig, ElmoEmbedding, ElmoEncoder, VocabularyCharacterIds, batch_to_ids, to_tensor
from bridge.encoder.elmo_import import import_elmo
from bridge.errors import InputTypeError, InputValueError

SENTENCES = [["The", "cat", "sat"], ["Hello"]]
IDS = batch_to_ids(SENTENCES)
VOCABULARY = ["", "[UNK]", "The", "cat", "sat", "Hello"]
WORD_IDS = np.array([[2, 3, 4], [5, 0, 0]])
# In a graph, a wrong value is TensorFlow's error with our text.
VALUE_ERRORS = (InputValueError, tf.errors.InvalidArgumentError)


@pytest.fixture(scope="module")
def embed(small: ElmoConfig) -> ElmoEmbedding:
    return ElmoEmbedding(small, dropout=0.0)


@pytest.fixture
def of_tokens(embed: ElmoEmbedding) -> keras.Model:
    return keras.Sequential([keras.Input((None,), dtype="string"), embed])


@pytest.fixture
def of_ids(embed: ElmoEmbedding) -> keras.Model:
    return keras.Sequential([keras.Input((None, 50), dtype="int32"), embed])


@pytest.fixture
def of_word_ids(embed: ElmoEmbedding) -> keras.Model:
    return keras.Sequential([keras.Input((None,), dtype="int32"), VocabularyCharacterIds(VOCABULARY), embed])


def predict(model: keras.Model, inputs: Any) -> np.ndarray:
    return model.predict(inputs, verbose=0)


def test_lists_where_a_tensor_belongs(embed: ElmoEmbedding, of_tokens: keras.Model, small: ElmoConfig) -> None:
    for values in (SENTENCES, IDS.tolist()):
        with pytest.raises(ValueError, match=r"Unrecognized data type"):  # Keras's
            predict(of_tokens, values)
        with pytest.raises(InputTypeError, match=r"`inputs` must be a tensor .*type list. `bridge\.to_tensor"):
            embed(values)
        with pytest.raises(InputTypeError, match=r"`char_ids` must be a NumPy array or a tensor.*type list"):
            ElmoEncoder(small)(values)
        assert_rows(embed(to_tensor(values)), small, SENTENCES)


def test_ragged_lists(
    embed: ElmoEmbedding, of_tokens: keras.Model, of_word_ids: keras.Model, small: ElmoConfig
) -> None:
    with pytest.raises(ValueError, match=r"non-rectangular Python sequence"):  # TensorFlow's
        tf.constant(SENTENCES)
    with pytest.raises(ValueError, match=r"inhomogeneous shape"):  # NumPy's
        np.array(SENTENCES)
    with pytest.raises(InputTypeError, match=r"must be a dense tensor.*RaggedTensor\. Make it one with `inputs\.to_t"):
        predict(of_tokens, tf.ragged.constant(SENTENCES))
    assert_rows(predict(of_tokens, to_tensor(SENTENCES)), small, SENTENCES)
    assert_rows(embed(to_tensor(tf.ragged.constant(SENTENCES))), small, SENTENCES)
    assert_rows(of_word_ids(to_tensor([[2, 3, 4], [5]])), small, SENTENCES)
    assert_rows(embed(to_tensor([IDS[0].tolist(), IDS[1, :1].tolist()])), small, SENTENCES)


@pytest.mark.parametrize("kind", ["lists", "strings", "integers", "column"])
def test_object_arrays_and_columns(kind: str, embed: ElmoEmbedding, of_tokens: keras.Model, small: ElmoConfig) -> None:
    pandas = pytest.importorskip("pandas")
    values = {
        "lists": np.array(SENTENCES, dtype=object),
        "strings": np.array([["The", "cat", "sat"], ["Hello", "", ""]]),
        "integers": IDS.astype(object),
        "column": pandas.Series(SENTENCES),
    }[kind]
    with pytest.raises(ValueError, match=r"Invalid dtype: (object|str160)"):  # Keras's
        predict(of_tokens, values)
    if kind != "strings":
        with pytest.raises(InputTypeError, match=r"`inputs` must .*Python objects, such as .* `bridge\.to_tensor"):
            embed(values)
    assert_rows(embed(to_tensor(values)), small, SENTENCES)


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_ids_of_eight_bits(dtype: str, embed: ElmoEmbedding, of_ids: keras.Model, of_word_ids: keras.Model) -> None:
    ids = IDS.astype(dtype)
    with pytest.raises(InputTypeError, match=rf"at least 16 bits.*dtype {dtype}, which can't hold them"):
        embed(ids)
    with pytest.raises(InputTypeError, match=rf"dtype {dtype}, which does not have them all, cast to int32"):
        predict(of_ids, ids)
    with pytest.raises(InputTypeError, match=rf"dtype {dtype} .*character ids go up to 261"):
        to_tensor(ids)
    # Too late for the dtype, and the values tell.
    with pytest.raises(InputValueError, match=r"a token begins with the id 259. Received: no token that does"):
        of_ids(tf.cast(ids.astype("uint8"), "int32"))
    assert of_word_ids(WORD_IDS.astype(dtype)).shape == (2, 3, 12)  # 5 fits
    large = VocabularyCharacterIds(["", *map(str, range(300))])
    model = keras.Sequential([keras.Input((None,), dtype="int32"), large])
    with pytest.raises(InputTypeError, match=rf"from 0 to 300. Received: dtype {dtype}"):
        predict(model, WORD_IDS.astype(dtype))


@pytest.mark.parametrize("dtype", ["int16", "int32", "int64", "uint16", "uint32", "uint64"])
def test_ids_of_other_integer_dtypes(dtype: str, embed: ElmoEmbedding, of_ids: keras.Model, small: ElmoConfig) -> None:
    ids = IDS.astype(dtype)
    assert_rows(embed(ids), small, SENTENCES)
    assert_rows(of_ids(ids), small, SENTENCES)
    assert ElmoEncoder(small)(ids).activations.shape == (2, 3, 3, 12)


def test_float_ids(embed: ElmoEmbedding, of_ids: keras.Model, of_word_ids: keras.Model, small: ElmoConfig) -> None:
    floats = IDS.astype("float32")
    with pytest.raises(InputTypeError, match=r"must be integers .*dtype float32 .*batch_to_ids"):
        embed(floats)
    with pytest.raises(InputTypeError, match=r"float32.*Begin the model with `keras\.Input\(\(None,\), dtype=\"str"):
        predict(keras.Sequential([embed]), floats)
    with pytest.raises(InputTypeError, match=r"array of dtype float32 at values. Ids are integers"):
        to_tensor(floats)
    # Keras casts these; whole numbers survive it.
    assert_rows(predict(of_ids, floats), small, SENTENCES)
    for model, ids in ((of_ids, floats), (of_word_ids, WORD_IDS)):
        with pytest.raises(VALUE_ERRORS, match=r"which the cast to int32 changes\. Give integers"):
            predict(model, ids + 0.5)
    # In eager mode the cast can't be seen, and only the values tell.
    for wrong, first in ((tf.cast(floats, "bfloat16"), 260), (floats / 261, 0)):
        with pytest.raises(InputValueError, match=rf"Received: no token that does, the first one begins with {first}"):
            of_ids(wrong)


def test_nan_among_the_ids(of_ids: keras.Model) -> None:
    ids = IDS.astype("float32")
    ids[0, 1, 2] = np.nan
    with pytest.raises(VALUE_ERRORS, match=r"Received: \[nan\].*NaN is a missing value"):
        predict(of_ids, ids)
    with pytest.raises(InputValueError, match=r"`char_ids` must be from 0 to 261. Received: -?[0-9]"):
        of_ids(ids)
    with pytest.raises(InputTypeError, match=r"nan of type float at values\[0\]\[1\]. It is a missing value"):
        to_tensor([["The", float("nan")]])


def test_bool_ids(embed: ElmoEmbedding, of_ids: keras.Model) -> None:
    with pytest.raises(InputTypeError, match=r"must be integers .*dtype bool"):
        embed(IDS > 0)
    with pytest.raises(InputTypeError, match=r"dtype bool, which does not have them all"):
        predict(of_ids, IDS > 0)
    with pytest.raises(InputTypeError, match=r"True of type bool"):
        to_tensor([[True, False]])


def test_strings_where_ids_belong(of_ids: keras.Model, of_word_ids: keras.Model, small: ElmoConfig) -> None:
    tokens = to_tensor(SENTENCES)
    with pytest.raises(InputTypeError, match=r"must be integer word ids, .*Received: strings .*dtype=\"string\""):
        predict(of_word_ids, tokens)
    with pytest.raises(ValueError, match=r"Expected shape \(None, None, 50\), but input has incompatible shape"):
        predict(of_ids, tokens)  # Keras's
    with pytest.raises(InputTypeError, match=r"must be integers .*Make the ids with `batch_to_ids`"):
        ElmoEncoder(small)(np.array([["The", "cat"]]))


def test_ids_where_strings_belong(of_tokens: keras.Model, embed: ElmoEmbedding) -> None:
    with pytest.raises(
        InputTypeError, match=r"must be string tokens, .*Received: dtype int64 .*VocabularyCharacterIds"
    ):
        predict(of_tokens, WORD_IDS)
    with pytest.raises(InputTypeError, match=r"must hold string tokens. Received: the token 2 of type int"):
        batch_to_ids(WORD_IDS.tolist())


@pytest.mark.parametrize(
    ("shape", "text"),
    [
        ((50,), r"rank 1\. A single sentence is a batch of one"),
        ((3, 50), r"One sentence of character ids is a batch of one: `char_ids\[None\]`"),
        ((1, 1, 1, 3, 50), "rank 5"),
    ],
)
def test_ids_of_the_wrong_rank(
    shape: tuple[int, ...], text: str, embed: ElmoEmbedding, of_ids: keras.Model, small: ElmoConfig
) -> None:
    ids = np.broadcast_to(IDS[0, 0] if len(shape) == 1 else IDS[0], shape)
    with pytest.raises(InputValueError, match=text):
        embed(ids)
    with pytest.raises(ValueError, match=r"incompatible shape"):  # Keras's
        predict(of_ids, ids)
    with pytest.raises(InputValueError, match=r"`char_ids` must be integers of shape"):
        ElmoEncoder(small)(ids)
    # Passages have one axis more.
    assert_rows(embed(IDS[None])[0], small, SENTENCES)


@pytest.mark.parametrize("width", [20, 49, 51])
def test_another_number_of_characters(width: int, embed: ElmoEmbedding, of_ids: keras.Model, small: ElmoConfig) -> None:
    ids = np.pad(IDS, [(0, 0), (0, 0), (0, 1)])[..., :width]
    text = rf"{width} characters a token. Make the ids with `batch_to_ids`"
    with pytest.raises(InputValueError, match=text):
        embed(ids)
    with pytest.raises(InputValueError, match=text):
        ElmoEncoder(small)(ids)
    with pytest.raises(ValueError, match=rf"{width} characters a token|incompatible shape"):  # ours or Keras's
        predict(of_ids, ids)


@pytest.mark.parametrize(("shift", "wrong"), [(-1, -1), (1, 262)])
def test_ids_below_0_or_above_261(shift: int, wrong: int, embed: ElmoEmbedding, of_ids: keras.Model) -> None:
    text = rf"`char_ids` must be from 0 to 261. Received: {wrong} in row"
    with pytest.raises(InputValueError, match=text):
        embed(IDS + shift)
    with pytest.raises(VALUE_ERRORS, match=text):
        predict(of_ids, IDS + shift)
    with pytest.raises(IndexError, match=r"index out of range in self"):  # PyTorch's
        torch.nn.Embedding(262, 4)(torch.tensor(IDS + shift))


def test_word_ids_instead_of_character_ids(
    embed: ElmoEmbedding, of_ids: keras.Model, of_word_ids: keras.Model, small: ElmoConfig
) -> None:
    with pytest.raises(InputValueError, match=r"looks like word ids.*`VocabularyCharacterIds\(vocabulary\)`"):
        embed(WORD_IDS)
    with pytest.raises(InputValueError, match=r"looks like word ids.*`VocabularyCharacterIds\(vocabulary\)`"):
        keras.Sequential([keras.Input((None,), dtype="int32"), embed])
    passages = np.ones((2, 3, 50), "int32")  # of 50 words each: the shape of character ids
    with pytest.raises(VALUE_ERRORS, match=r"a token begins with the id 259.* begins with 1. Word ids"):
        predict(of_ids, passages)
    assert_rows(of_word_ids(WORD_IDS), small, SENTENCES)


def test_character_ids_of_another_table(embed: ElmoEmbedding, small: ElmoConfig) -> None:
    unshifted = np.where(IDS == 0, 0, IDS - 1)  # bilm-tf's table, before the shift that frees 0 for padding
    with pytest.raises(InputValueError, match=r"begins with 258. .*ids without AllenNLP's shift by 1"):
        embed(unshifted)
    with pytest.raises(InputValueError, match=r"begins with 258"):
        ElmoEncoder(small)(unshifted)


def test_a_word_id_as_large_as_the_vocabulary(of_word_ids: keras.Model) -> None:
    text = r"must be word ids from 0 to 5: the vocabulary has 6 words, padding included. Received: the id 6"
    with pytest.raises(VALUE_ERRORS, match=text):
        predict(of_word_ids, WORD_IDS + 1)


def test_padding_before_the_tokens(of_word_ids: keras.Model, small: ElmoConfig) -> None:
    rows = [[2, 3, 4], [5]]
    text = r"row 1 of the batch with padding at timestep 0, before a token. Pad at the end, with `padding='post'`"
    with pytest.raises(VALUE_ERRORS, match=text):
        predict(of_word_ids, keras.utils.pad_sequences(rows))
    with pytest.raises(InputValueError, match=r"padding at values\[1\]\[1\], before a token"):
        to_tensor(keras.utils.pad_sequences(rows))
    assert_rows(of_word_ids(keras.utils.pad_sequences(rows, padding="post")), small, SENTENCES)


def test_padding_between_tokens(embed: ElmoEmbedding, of_tokens: keras.Model, small: ElmoConfig) -> None:
    text = r"row 0 of the batch with padding at timestep 1, before a token.* take empty strings out of sentences"
    for wrong in (tf.constant([["The", "", "sat"]]), np.concatenate([IDS[1:], IDS[:1]], axis=1)):
        with pytest.raises(InputValueError, match=text):
            embed(wrong)
    with pytest.raises(VALUE_ERRORS, match=text):
        predict(of_tokens, tf.constant([["The", "", "sat"]]))
    # AllenNLP computes something, and its mask says that the third token is padding.
    allennlp = import_elmo()
    elmo = allennlp.Elmo(str(small.options_file), str(small.weight_file), 1, dropout=0.0).eval()
    ids = torch.tensor(IDS[:1].copy())
    ids[0, 1] = 0
    with torch.no_grad():
        received = elmo(ids)["elmo_representations"][0][0].numpy()
    with pytest.raises(AssertionError):
        assert_rows(received[None, [0, 2]], small, [["The", "sat"]])


def test_an_empty_string_among_the_tokens(embed: ElmoEmbedding, small: ElmoConfig) -> None:
    np.testing.assert_array_equal(batch_to_ids([["", "a"]]), import_elmo().batch_to_ids([["", "a"]]))
    assert ElmoEncoder(small).embed([["", "a"]])[0].shape == (2, 3, 12)
    assert_rows(embed(batch_to_ids([["a", ""]])), small, [["a", ""]])  # a token, as in AllenNLP
    assert_rows(embed(tf.constant([["a", ""]])), small, [["a"]])  # padding, as a tensor has no other
    with pytest.raises(InputValueError, match=r"padding at values\[0\]\[0\], before a token. Take empty strings out"):
        to_tensor([["", "a"]])


@pytest.mark.parametrize("token", ["<S>", "</S>"])
def test_a_literal_s_in_the_text(token: str, embed: ElmoEmbedding, small: ElmoConfig) -> None:
    boundary = {"<S>": 257, "</S>": 258}[token]
    assert batch_to_ids([[token]])[0, 0, :3].tolist() == [259, boundary, 260]  # not "<", "S", ">"
    assert_rows(embed(tf.constant([["a", token]])), small, [["a", token]])  # AllenNLP reads it so, too
    assert (batch_to_ids([[token.lower()]])[0, 0] < 257).sum() == len(token)  # plain letters


@pytest.mark.filterwarnings("ignore:.*invalid value:RuntimeWarning")
def test_a_row_of_padding_only(embed: ElmoEmbedding, small: ElmoConfig) -> None:
    tokens = to_tensor([["The", "cat"], []])
    assert_rows(embed(tokens), small, [["The", "cat"], []])
    averaged = keras.layers.GlobalAveragePooling1D()(embed(tokens))
    assert np.isnan(averaged).any(axis=1).tolist() == [False, True]  # Keras's 0 / 0
    pooled = ElmoEmbedding(small, dropout=0.0, pooling="mean")(tokens).numpy()
    np.testing.assert_allclose(pooled[0], averaged[0], atol=1e-5)
    np.testing.assert_array_equal(pooled[1], 0)


@pytest.mark.filterwarnings("ignore:Your input ran out of data")
def test_an_empty_batch(embed: ElmoEmbedding, of_ids: keras.Model, small: ElmoConfig) -> None:
    assert embed(IDS[:0]).shape == (0, 3, 12)
    assert ElmoEncoder(small)(IDS[:0]).activations.shape == (0, 3, 3, 12)
    assert batch_to_ids([]).shape == (0, 0, 50)
    assert ElmoEncoder(small).embed([]) == []
    with pytest.raises(UnboundLocalError, match=r"batch_outputs"):  # Keras's
        predict(of_ids, IDS[:0])
    with pytest.raises(InputValueError, match=r"an empty one, which does not tell what it is a batch of"):
        to_tensor([])


@pytest.mark.parametrize("sentence", [["Hello"], ["The", "cat", "sat"]])
def test_a_batch_of_one_and_a_sentence_of_one_word(
    sentence: list[str], embed: ElmoEmbedding, of_tokens: keras.Model, small: ElmoConfig
) -> None:
    assert_rows(embed(batch_to_ids([sentence])), small, [sentence])
    assert_rows(predict(of_tokens, to_tensor([sentence])), small, [sentence])
    with pytest.raises(InputValueError, match=r"must be string tokens of shape .*Split sentences into tokens first"):
        embed(tf.constant(sentence))  # without the batch
    with pytest.raises(InputTypeError, match=r"must be a list of sentences, each a list of tokens"):
        batch_to_ids(sentence)  # AllenNLP's takes letters for tokens
