"""What follows the biLM: pooling, dropout, the mixes' regularizer, and several outputs in a model."""

import json
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from layers.harness import assert_close, keras_mask

from bridge import ElmoConfig, ElmoEmbedding, batch_to_ids
from bridge.errors import InputValueError
from bridge.layers.representations import ElmoRepresentations

# Two passages of three sentences; some have no token, and the longest is not in the first passage.
PASSAGES = tf.constant(
    [
        [["The", "cat", "", ""], ["", "", "", ""], ["Hello", "", "", ""]],
        [["a", "b", "a", "b"], ["", "", "", ""], ["", "", "", ""]],
    ]
)
HAS_TOKENS = np.array([[True, False, True], [True, False, False]])
EMPTY = PASSAGES[:, 1]


@pytest.mark.parametrize("rate", [0.3, np.float32(0.5)])
def test_dropout_statistics(rate: float, small: ElmoConfig) -> None:
    layer = ElmoEmbedding(small, dropout=rate, num_output_representations=2, seed=7)
    sentences = tf.constant([["word", "other"] * 20] * 20)
    plain = layer(sentences)
    outputs = layer(sentences, training=True)
    dropped = [output.numpy() == 0 for output in outputs]
    for output, undropped, zeros in zip(outputs, plain, dropped, strict=True):
        assert abs(zeros.mean() - rate) < 0.03
        assert_close(output.numpy()[~zeros], undropped.numpy()[~zeros] / (1 - rate))
    # Independent: both at once as often as chance has it.
    assert abs((dropped[0] & dropped[1]).mean() - rate**2) < 0.03
    for again, undropped in zip(layer(sentences, training=False), plain, strict=True):
        np.testing.assert_array_equal(again, undropped)


def test_dropout_of_everything(small: ElmoConfig) -> None:
    assert not ElmoEmbedding(small, dropout=1)(PASSAGES[0], training=True).numpy().any()


def test_the_seed_reproduces_dropout(small: ElmoConfig) -> None:
    def dropped(seed: Any) -> list[np.ndarray]:
        layer = ElmoEmbedding(small, seed=seed)
        return [layer(PASSAGES, training=True).numpy() for _ in range(3)]

    for first, second, other in zip(dropped(np.int64(3)), dropped(3), dropped(4), strict=True):
        np.testing.assert_array_equal(first, second)
        assert np.any((first == 0) != (other == 0))
    results = []
    for _ in range(2):
        keras.utils.set_random_seed(5)
        results.append(dropped(None))
    np.testing.assert_array_equal(results[0], results[1])
    assert np.any(results[0][0] != results[0][1]), "every step must drop others"


def mse_model(small: ElmoConfig, **arguments: Any) -> keras.Model:
    inputs = keras.Input((None,), dtype="string")
    layer = ElmoEmbedding(small, dropout=0.0, pooling="mean", name="elmo", **arguments)
    model = keras.Model(inputs, layer(inputs))
    for index, mix in enumerate(layer.scalar_mixes):
        mix.scalar_parameters.assign([1.0, -2.0, 0.5 + index])
    return model


@keras.saving.register_keras_serializable(package="tests")
class Cubes(keras.regularizers.Regularizer):
    """A user's own."""

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def __call__(self, x: Any) -> Any:
        return self.factor * keras.ops.sum(keras.ops.abs(x) ** 3)

    def get_config(self) -> dict[str, Any]:
        return {"factor": self.factor}


REGULARIZERS: dict[str, tuple[Any, float]] = {
    # what is given, and its value for [1, -2, 0.5]
    "a name": ("l2", 0.01 * 5.25),
    "an object": (keras.regularizers.L1(0.1), 0.35),
    "a dict": ({"class_name": "L2", "config": {"l2": 0.5}}, 2.625),
    "one's own": (Cubes(2.0), 18.25),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", REGULARIZERS)
def test_mix_regularizer(case: str, small: ElmoConfig, tmp_path: Any) -> None:
    regularizer, value = REGULARIZERS[case]
    model = mse_model(small, mix_regularizer=regularizer)
    assert_close(np.sum(model.losses), value, 1e-6)
    model.compile(keras.optimizers.SGD(0.1), "mse")
    output = model(PASSAGES[0])
    without = np.mean(output**2)
    assert_close(model.evaluate(PASSAGES[0], np.zeros(output.shape), verbose=0), without + value)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert_close(np.sum(loaded.losses), value, 1e-6)
    config = model.get_layer("elmo").get_config()
    again = ElmoEmbedding.from_config(json.loads(json.dumps(config)))
    assert again.get_config() == config
    model.trainable = False
    assert not model.losses


@pytest.mark.slow
def test_mix_regularizer_of_several_outputs_and_its_pull(small: ElmoConfig) -> None:
    model = mse_model(small, mix_regularizer="l2", num_output_representations=2)
    assert_close(np.sum(model.losses), 0.01 * (5.25 + 1 + 4 + 2.25), 1e-6)
    layer = model.get_layer("elmo")
    model.compile(keras.optimizers.SGD(1.0), [lambda y, x: 0.0 * x] * 2)  # nothing but the regularizer
    before = [mix.scalar_parameters.numpy() for mix in layer.scalar_mixes]
    model.fit(PASSAGES[0], [np.zeros((3, 12))] * 2, verbose=0)
    for mix, old in zip(layer.scalar_mixes, before, strict=True):
        assert_close(mix.scalar_parameters, old * (1 - 2 * 0.01), 1e-6)
        assert float(mix.gamma) == 1.0


@pytest.mark.slow
def test_several_outputs_in_a_functional_model(small: ElmoConfig) -> None:
    inputs = keras.Input((None,), dtype="string")
    layer = ElmoEmbedding(small, num_output_representations=2, dropout=0.0)
    first, second = layer(inputs)
    assert first.shape == second.shape == (None, None, 12)
    lstm = keras.layers.LSTM(3)
    model = keras.Model(inputs, [lstm(first), keras.layers.GlobalAveragePooling1D()(second)])
    model.compile(keras.optimizers.SGD(0.5), ["mse", "mse"])
    batch = PASSAGES[:, 0]
    vectors = layer(batch)[0].numpy()
    by_hand = np.concatenate([lstm(vectors[:1, :2]), lstm(vectors[1:])])
    for one, two in (model(batch), model.predict(batch, verbose=0)):
        assert_close(one, by_hand)
        assert_close(two, [row[:n].mean(axis=0) for row, n in zip(layer(batch)[1].numpy(), (2, 4), strict=True)])
    # Each mix has a gradient of its own.
    model.fit(batch, [np.ones((2, 3)), -np.ones((2, 12))], verbose=0)
    one, two = (mix.scalar_parameters.numpy() for mix in layer.scalar_mixes)
    assert np.abs(one).max() > 1e-5
    assert np.abs(two).max() > 1e-5
    assert np.abs(one - two).max() > 1e-5


@pytest.mark.slow
def test_several_outputs_at_the_end_of_a_sequential_model(small: ElmoConfig) -> None:
    layer = ElmoEmbedding(small, num_output_representations=2, dropout=0.0)
    model = keras.Sequential([keras.Input((None,), dtype="string"), layer])
    for output, wanted in zip(model.predict(PASSAGES[0], verbose=0), layer(PASSAGES[0]), strict=True):
        assert_close(output, wanted)


@pytest.mark.slow
@pytest.mark.parametrize("as_ids", [False, True])
def test_passages_before_time_distributed_layers(as_ids: bool, small: ElmoConfig) -> None:
    """The mask keeps its passages: each sentence's LSTM stops where the sentence ends."""
    shape, dtype = ((None, None, 50), "int32") if as_ids else ((None, None), "string")
    inputs, lstm = keras.Input(shape, dtype=dtype), keras.layers.LSTM(2)
    layer = ElmoEmbedding(small, dropout=0.0)
    model = keras.Model(inputs, keras.layers.TimeDistributed(lstm)(layer(inputs)))
    sentences = [[word.decode() for word in row if word] for row in PASSAGES.numpy().reshape(6, 4)]
    batch = batch_to_ids(sentences).reshape(2, 3, 4, 50) if as_ids else PASSAGES
    for output in (model(batch), model.predict(batch, verbose=0)):
        for index in zip(*np.nonzero(HAS_TOKENS), strict=True):
            tokens = PASSAGES[index][PASSAGES[index] != ""]
            assert_close(output[index][None], lstm(layer(tokens[None])))


def test_a_mask_of_passages(small: ElmoConfig) -> None:
    layer = ElmoEmbedding(small)
    mask = np.arange(4) < np.array([[1, 0, 1], [2, 0, 0]])[:, :, None]
    output = layer(PASSAGES, mask=mask)
    cut = tf.where(mask, PASSAGES, "")
    np.testing.assert_array_equal(output, layer(cut))
    np.testing.assert_array_equal(keras_mask(output), mask)
    with pytest.raises(InputValueError, match=r"shape \(batch, passages, timesteps\) = \(2, 3, 4\).*\(6, 4\)"):
        layer(PASSAGES, mask=mask.reshape(6, 4))


def test_minus_infinity_leaves_a_layer_out(small: ElmoConfig) -> None:
    layer = ElmoEmbedding(small, scalar_mix_parameters=[-np.inf, 0.0, -np.inf])
    layers = ElmoEmbedding(small, output_mode="all")(PASSAGES[0])
    assert_close(layer(PASSAGES[0]), layers[:, :, 1])
    config = json.loads(json.dumps(layer.get_config()))
    assert ElmoEmbedding.from_config(config).get_config() == layer.get_config()


def test_without_a_mask_zeros_are_padding(small: ElmoConfig) -> None:
    """As features are that come from a file."""
    layers = ElmoEmbedding(small, output_mode="all")(PASSAGES[0]).numpy()
    layer = ElmoRepresentations(do_layer_norm=True, pooling="mean", dropout=0.0)
    wanted = ElmoRepresentations(do_layer_norm=True, pooling="mean", dropout=0.0)
    mask = PASSAGES[0].numpy() != b""
    np.testing.assert_array_equal(layer(layers), wanted(layers, mask=mask))
