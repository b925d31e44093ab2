"""The traps of docs/troubleshooting.md, "Masks": each test has the name of its entry."""

import logging
import warnings
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
import torch
from keras import layers, ops
from traps.oracle import alone, assert_rows

from bridge import (
    CharacterIds,
    ElmoConfig,
    ElmoEmbedding,
    ElmoEncoder,
    VocabularyCharacterIds,
    WhitespaceTokenizer,
    batch_to_ids,
    to_tensor,
)
from bridge.encoder.elmo_import import import_elmo
from bridge.errors import InputTypeError, InputValueError

SENTENCES = [["The", "cat", "sat"], ["Hello"]]
TOKENS = to_tensor(SENTENCES)
IDS = batch_to_ids(SENTENCES)
MASK = np.array([[True, True, True], [True, False, False]])
VALUE_ERRORS = (InputValueError, tf.errors.InvalidArgumentError)


@pytest.fixture(scope="module")
def embed(small: ElmoConfig) -> ElmoEmbedding:
    return ElmoEmbedding(small, dropout=0.0, trainable=False)


def test_a_mask_as_the_second_argument_of_allennlp(
    embed: ElmoEmbedding, small: ElmoConfig, caplog: pytest.LogCaptureFixture
) -> None:
    allennlp = import_elmo()
    elmo = allennlp.Elmo(str(small.options_file), str(small.weight_file), 1, dropout=0.0).eval()
    with torch.no_grad(), caplog.at_level(logging.WARNING):
        elmo(torch.from_numpy(IDS), torch.from_numpy(MASK))  # `word_inputs`: not a mask
    assert "Word inputs were passed to ELMo but it does not have a cached vocab." in caplog.text
    # Here the second argument is the mask, and word ids are no mask.
    cut = MASK & [True, True, False]
    assert_rows(embed(IDS, cut), small, [["The", "cat"], ["Hello"]])
    with pytest.raises(InputValueError, match=r"`mask` must be bool or 0/1.*A mask of word ids is `ids != 0`"):
        embed(IDS, np.array([[17, 4, 9], [2, 0, 0]]))
    with pytest.raises(TypeError, match=r"unexpected keyword argument 'word_inputs'"):  # Keras's
        embed(IDS, word_inputs=np.array([[17, 4, 9], [2, 0, 0]]))


def test_a_mask_for_a_layer_that_takes_none(embed: ElmoEmbedding, small: ElmoConfig) -> None:
    calls: list[Callable[[], Any]] = [
        lambda: CharacterIds()(TOKENS, mask=MASK),
        lambda: VocabularyCharacterIds(["", "a"])(np.array([[1, 0]]), mask=np.array([[True, False]])),
        lambda: WhitespaceTokenizer()(tf.constant(["a b"]), mask=MASK),
        lambda: layers.Embedding(3, 2)(np.array([[1]]), mask=np.array([[True]])),
    ]
    for call in calls:
        with pytest.raises(TypeError, match=r"unexpected keyword argument 'mask'"):
            call()
    # They make their own, which ElmoEmbedding finds; it takes another beside it.
    assert_rows(embed(CharacterIds()(TOKENS)), small, SENTENCES)
    assert_rows(embed(CharacterIds()(TOKENS), mask=MASK), small, SENTENCES)


@pytest.mark.parametrize("shape", [(2, 2), (2, 4), (1, 3), (2,), (2, 3, 1), (2, 3, 50)])
def test_a_mask_of_another_shape(shape: tuple[int, ...], embed: ElmoEmbedding, small: ElmoConfig) -> None:
    text = r"`mask` must have shape \(batch, timesteps\) = \(2, 3\)\. Received: shape \(\d"
    with pytest.raises(InputValueError, match=text):
        embed(TOKENS, mask=np.ones(shape, bool))
    with pytest.raises(InputValueError, match=text):
        ElmoEncoder(small)(IDS, np.ones(shape, bool))


def test_a_mask_of_another_dtype(embed: ElmoEmbedding, small: ElmoConfig) -> None:
    cut, cut_sentences = np.array([[1, 1, 0], [1, 0, 0]]), [["The", "cat"], ["Hello"]]
    for dtype in ("bool", "int8", "int64", "float32"):  # 0 and 1 are as good as False and True
        assert_rows(embed(TOKENS, mask=cut.astype(dtype)), small, cut_sentences)
    text = r"`mask` must be bool or 0/1"
    for wrong in (np.where(MASK, 0.5, 0.0), np.where(MASK, 0.0, -1e9), np.where(MASK, 1.0, np.nan), MASK * 7):
        with pytest.raises(InputValueError, match=text):
            embed(TOKENS, mask=wrong)
        with pytest.raises(InputValueError, match=text):
            ElmoEncoder(small)(IDS, wrong)
    with pytest.raises(InputTypeError, match=text):
        embed(TOKENS, mask=TOKENS)
    for no_tensor in (MASK.tolist(), MASK.astype(object), True):
        with pytest.raises(
            InputTypeError, match=r"(?s)`mask` must be .*Make it one with `np\.array\(mask, dtype=bool\)`"
        ):
            embed(TOKENS, mask=no_tensor)
    inputs, mask = keras.Input((None,), dtype="string"), keras.Input((None,), dtype="float32")
    model = keras.Model([inputs, mask], embed(inputs, mask=mask))
    with pytest.raises(VALUE_ERRORS, match=text):
        model.predict([TOKENS, np.where(MASK, 0.0, -1e9)], verbose=0)


def test_a_mask_that_contradicts_the_ids(embed: ElmoEmbedding, small: ElmoConfig) -> None:
    claims = r"`mask` must not claim a token where `char_ids` has none. Received: true in row 1 at timestep 1"
    for wrong in (np.ones((2, 3), bool), ~MASK):  # everything; turned around, as PyTorch's padding masks are
        with pytest.raises(InputValueError, match=claims):
            embed(TOKENS, mask=wrong)
        with pytest.raises(InputValueError, match=claims):
            ElmoEncoder(small)(IDS, wrong)
    with pytest.raises(InputValueError, match=r"may only cut the end of a row. Received: row 0 masked at timestep 1"):
        embed(TOKENS, mask=MASK & [True, False, True])
    # Turned around, and nothing is padded: no contradiction, everything is cut.
    assert_rows(embed(TOKENS[:1], mask=~MASK[:1]), small, [[]])


DROPPING: dict[str, Callable[[], list[Any]]] = {
    "Conv1D": lambda: [layers.Conv1D(4, 2, padding="same", name="drops"), layers.GlobalAveragePooling1D()],
    "GlobalMaxPooling1D": lambda: [layers.GlobalMaxPooling1D(name="drops")],
    "Flatten": lambda: [layers.Flatten(name="drops")],
    "Reshape": lambda: [layers.Reshape((36,), name="drops")],
    "Lambda": lambda: [layers.Lambda(lambda x: ops.mean(x, axis=1), output_shape=(12,), name="drops")],
    "behind others": lambda: [layers.Dense(3), layers.LayerNormalization(), layers.GlobalMaxPooling1D(name="drops")],
}


def told(make: Callable[[], list[Any]], embed: ElmoEmbedding) -> list[str]:
    """What a user of Python's default warning filters is told about masks, from building to inference."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        model = keras.Sequential([keras.Input((3,), dtype="string"), embed, *make(), layers.Dense(1)])
        model.compile("sgd", "mse")
        model.train_on_batch(TOKENS, np.zeros((2, 1)))
        model.predict_on_batch(TOKENS)
        model(TOKENS)
    return [str(warning.message) for warning in caught]


@pytest.mark.parametrize("case", DROPPING)
def test_layers_that_drop_the_mask(case: str, embed: ElmoEmbedding, small: ElmoConfig) -> None:
    [message] = told(DROPPING[case], embed)  # once, and nothing fails
    assert message.startswith("Layer 'drops' (of type ")
    assert "does not support masking and will therefore destroy the mask information" in message
    if case == "behind others":
        assert told(lambda: [layers.Dense(3), layers.GlobalAveragePooling1D()], embed) == []


@pytest.mark.filterwarnings("ignore:.*does not support masking")
def test_pooling_and_convolution_without_padding(embed: ElmoEmbedding, small: ElmoConfig) -> None:
    inputs = keras.Input((None,), dtype="string")
    words = embed(inputs)
    mask = ops.any(words != 0, axis=-1)
    convolve, average = layers.Conv1D(4, 2, padding="same", bias_initializer="ones"), layers.GlobalAveragePooling1D()
    model = keras.Model(
        inputs,
        [
            ops.max(ops.where(mask[..., None], words, -1e9), axis=1),
            average(convolve(words), mask=mask),
            # Padding counts in Keras's own.
            layers.GlobalMaxPooling1D()(words),
            average(convolve(words)),
        ],
    )
    highest, averages, *padded = (output.numpy() for output in model(TOKENS))
    for row, sentence in enumerate(SENTENCES):
        vectors = alone(small, sentence)
        np.testing.assert_allclose(highest[row], vectors.max(axis=0), atol=1e-5)
        np.testing.assert_allclose(averages[row], ops.mean(convolve(vectors[None])[0], axis=0), atol=1e-5)
    for wrong, right in zip(padded, (highest, averages), strict=True):
        assert np.abs(wrong[1] - right[1]).max() > 1e-3


def test_operations_that_drop_the_mask_silently(embed: ElmoEmbedding) -> None:
    class Highest(layers.Layer):
        """Keras tells of it, because it is a layer."""

        def call(self, inputs: Any) -> Any:
            return ops.max(inputs, axis=1)

    inputs = keras.Input((None,), dtype="string")
    for operation, warned in (
        (lambda words: ops.max(words, axis=1), 0),
        (lambda words: words[:, -1], 0),
        (Highest(), 1),
    ):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("default")
            output = keras.Model(inputs, operation(embed(inputs)))(TOKENS)
        assert len(caught) == warned
        assert output.shape == (2, 12)
    np.testing.assert_array_equal(embed(TOKENS)[1, -1], 0)  # the last timestep is padding, not the last word
