"""The traps of docs/troubleshooting.md, "Training and inference": each test has the name of its entry."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from traps.oracle import alone, assert_rows

from bridge import ElmoConfig, ElmoEmbedding, WhitespaceTokenizer, batch_to_ids, to_tensor
from bridge.errors import InputTypeError, InputValueError, UnsupportedError

SENTENCES = [["The", "cat", "sat"], ["Hello"], ["a", "b", "c", "d", "e"]]
VALUE_ERRORS = (InputValueError, tf.errors.InvalidArgumentError)


@pytest.fixture(scope="module")
def embed(small: ElmoConfig) -> ElmoEmbedding:
    return ElmoEmbedding(small, dropout=0.0)


def tagger(embed: ElmoEmbedding) -> keras.Model:
    return keras.Sequential([keras.Input((None,), dtype="string"), embed])


def predict(model: keras.Model, inputs: Any) -> np.ndarray:
    return model.predict(inputs, verbose=0)


def test_other_padding_at_inference(embed: ElmoEmbedding, small: ElmoConfig) -> None:
    model = tagger(embed)
    assert_rows(predict(model, to_tensor(SENTENCES)), small, SENTENCES)
    for length in (5, 9):  # exactly, and further
        assert_rows(embed(batch_to_ids(SENTENCES, length)), small, SENTENCES)
    for row in SENTENCES:  # a batch of its own, or of other company
        assert_rows(embed(to_tensor([row])), small, [row])
    assert_rows(embed(to_tensor(SENTENCES[::-1])), small, SENTENCES[::-1])
    with pytest.raises(VALUE_ERRORS, match=r"padding at timestep 0, before a token"):
        predict(model, tf.constant([["", "", "Hello"]]))


def test_a_padding_word_in_place_of_empty_strings(embed: ElmoEmbedding, small: ElmoConfig) -> None:
    padded = tf.constant([["The", "cat", "sat"], ["Hello", "<pad>", "<pad>"]])
    assert_rows(embed(padded), small, [["The", "cat", "sat"], ["Hello", "<pad>", "<pad>"]])  # words like any other
    sentences = [["The", "cat", "sat"], ["Hello"]]
    assert_rows(embed(padded, mask=padded != "<pad>"), small, sentences)
    assert_rows(embed(tf.where(padded == "<pad>", "", padded)), small, sentences)


def test_a_second_fit_after_one_that_failed(small: ElmoConfig) -> None:
    embed = ElmoEmbedding(small, pooling="mean")
    model = keras.Sequential([keras.Input((None, 50), dtype="int32"), embed, keras.layers.Dense(1)])
    model.compile("adam", "mse")
    ids, labels = batch_to_ids(SENTENCES), np.zeros(3)
    with pytest.raises(InputTypeError, match="dtype uint8, which does not have them all"):
        model.fit(ids.astype("uint8"), labels, verbose=0)
    with pytest.raises(ValueError, match="Creating variables on a non-first call"):
        model.fit(ids, labels, verbose=0)
    model.compile("adam", "mse")
    assert np.isfinite(model.fit(ids, labels, verbose=0).history["loss"]).all()


@pytest.mark.slow
def test_a_saved_model_that_keras_does_not_know(embed: ElmoEmbedding, small: ElmoConfig, tmp_path: Path) -> None:
    tagger(embed).save(tmp_path / "model.keras")
    program = """
import sys
import keras
try:
    keras.models.load_model(sys.argv[1])
except TypeError as error:
    assert "could not be deserialized" in str(error) and "Could not locate class 'ElmoEmbedding'" in str(error), error
from bridge import ElmoEmbedding
print(keras.models.load_model(sys.argv[1]).output_shape)
"""
    command = [sys.executable, "-c", program, str(tmp_path / "model.keras")]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=250)
    assert done.stdout.strip() == "(None, None, 12)"


def test_another_length_at_inference(small: ElmoConfig) -> None:
    fixed = ElmoEmbedding(small, dropout=0.0, max_sequence_length=3)
    model = tagger(fixed)
    # Whatever the batch is padded to, the model sees the first 3 tokens: of AllenNLP, too.
    for length in (None, 4, 9):
        assert_rows(model(to_tensor(SENTENCES, length)), small, [row[:3] for row in SENTENCES])
    # Cut tokens are gone for those before them too: the backward LSTM has not read them.
    assert np.abs(alone(small, SENTENCES[2])[:3] - alone(small, SENTENCES[2][:3])).max() > 1e-3
    # Keras's `pad_sequences` keeps the last ones.
    assert keras.utils.pad_sequences([[1, 2, 3, 4, 5]], maxlen=3).tolist() == [[3, 4, 5]]
    assert to_tensor([[1, 2, 3, 4, 5]], 3).numpy().tolist() == [[1, 2, 3]]


def test_layers_whose_result_depends_on_the_length(small: ElmoConfig) -> None:
    def highest(**arguments: Any) -> list[np.ndarray]:
        layer = ElmoEmbedding(small, dropout=0.0, **arguments)
        return [np.max(layer(to_tensor([["Hello"]], length)), axis=1) for length in (None, 4)]

    without, padded = highest()
    assert np.abs(without - padded).max() > 1e-3
    alone_fixed, padded_fixed = highest(max_sequence_length=4)
    np.testing.assert_allclose(alone_fixed, padded_fixed, atol=1e-6)


@pytest.mark.filterwarnings("ignore:.*does not support masking")
def test_other_tokens_at_inference(embed: ElmoEmbedding, small: ElmoConfig, tmp_path: Path) -> None:
    # Three ways to split a sentence, or to write one: each gives ELMo other words.
    for one, other in ((["sat", "."], ["sat."]), (["The"], ["the"]), (["caf\u00e9"], ["cafe\u0301"])):
        assert np.abs(embed(to_tensor([one]))[0, 0] - embed(to_tensor([other]))[0, 0]).max() > 1e-3
        assert_rows(embed(to_tensor([other])), small, [other])
    # What is a part of the model is saved in it.
    model = keras.Sequential([keras.Input((), dtype="string"), WhitespaceTokenizer(), embed])
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert_rows(loaded(tf.constant(["The cat\u00a0sat .", ""])), small, [["The", "cat", "sat", "."], []])
    vectorize = keras.layers.TextVectorization()
    vectorize.adapt(["The cat sat."])
    assert set(vectorize.get_vocabulary()) == {"", "[UNK]", "the", "cat", "sat"}  # neither case nor punctuation


def test_max_sequence_length_changed_after_training(small: ElmoConfig, tmp_path: Path) -> None:
    model = tagger(ElmoEmbedding(small, max_sequence_length=3, name="elmo"))
    model.compile("sgd", "mse")
    tokens = to_tensor(SENTENCES)
    model.train_on_batch(tokens, np.zeros((3, 3, 12)))
    layer = model.get_layer("elmo")
    with pytest.raises(UnsupportedError, match=r"`max_sequence_length` must be given when the ElmoEmbedding is made"):
        layer.max_sequence_length = 5
    tokenizer = WhitespaceTokenizer(max_sequence_length=3)
    with pytest.raises(UnsupportedError, match=r"`max_sequence_length` must be given when the WhitespaceTokenizer is"):
        tokenizer.max_sequence_length = None
    # It is saved with the model,
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.get_layer("elmo").max_sequence_length == 3
    np.testing.assert_allclose(loaded(tokens), model(tokens), atol=1e-6)
    # and a new layer, as the error says, differs where a sentence is longer than the old one alone.
    longer = tagger(ElmoEmbedding.from_config({**layer.get_config(), "max_sequence_length": 5}))
    longer.set_weights(model.get_weights())
    before, after = model(tokens).numpy(), longer(tokens).numpy()
    np.testing.assert_allclose(after[:2, :3], before[:2], atol=1e-5)
    assert np.abs(after[2, :3] - before[2]).max() > 1e-3


@pytest.mark.parametrize(
    ("name", "value"),
    [("requires_grad", True), ("dropout", 0.0), ("keep_sentence_boundaries", True), ("state", "carry")],
)
def test_an_argument_changed_after_the_layer_was_made(
    name: str, value: Any, embed: ElmoEmbedding, small: ElmoConfig
) -> None:
    config = embed.get_config()
    with pytest.raises(UnsupportedError, match=rf"`{name}` must be given when the ElmoEmbedding is made"):
        setattr(embed, name, value)
    assert embed.get_config() == config
    embed.trainable = embed.trainable  # Keras's own may change
    assert_rows(embed(to_tensor(SENTENCES)), small, SENTENCES)
