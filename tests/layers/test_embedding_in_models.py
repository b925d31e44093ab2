"""ElmoEmbedding in Keras models: training, traces, sharing, and masks downstream."""

import gc
import inspect
import weakref
from collections.abc import Callable
from functools import wraps
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from layers.harness import MASK, SENTENCES, assert_close, ids, tokens

from bridge import ElmoConfig, ElmoEmbedding

TOKENS = tokens(SENTENCES)
LABELS = np.array([[1.0], [0.0]])


def classifier(layer: ElmoEmbedding, shape: tuple[int | None, ...] = (None,), dtype: str = "string") -> keras.Model:
    model = keras.Sequential(
        [
            keras.Input(shape, dtype=dtype),
            layer,
            keras.layers.GlobalAveragePooling1D(),
            keras.layers.Dense(1, activation="sigmoid"),
        ]
    )
    model.compile(keras.optimizers.SGD(1.0), "binary_crossentropy")
    return model


@pytest.fixture(scope="module")
def embed(small: ElmoConfig) -> ElmoEmbedding:
    return ElmoEmbedding(small, dropout=0.0)


@pytest.fixture(scope="module")
def vectors(embed: ElmoEmbedding) -> tf.Tensor:
    """For SENTENCES, with no mask attached."""
    return tf.constant(embed(TOKENS).numpy())


def test_sequential_on_strings(small: ElmoConfig) -> None:
    model = classifier(ElmoEmbedding(small))
    assert model.count_params() == 3 + 1 + 12 + 1  # the mix, gamma, the Dense layer
    dataset = tf.data.Dataset.from_tensors((TOKENS, LABELS))
    model.fit(dataset, verbose=0, shuffle=False)
    loss = model.evaluate(TOKENS, LABELS, verbose=0)
    predicted = model.predict(TOKENS, verbose=0)
    assert_close(loss, keras.losses.binary_crossentropy(LABELS, predicted).numpy().mean(), 1e-5)
    assert_close(model(TOKENS), predicted)
    assert_close(model(np.array([["The", "cat", "sat"], ["Hello", "", ""]])), predicted)
    assert np.isfinite(model.train_on_batch(TOKENS, LABELS))


def test_functional_on_ids_of_any_integer_dtype(small: ElmoConfig) -> None:
    model = classifier(ElmoEmbedding(small, dropout=0.0), (None, 50), "int32")
    model.fit(ids(SENTENCES, "int64"), LABELS, verbose=0)
    predicted = model.predict(ids(SENTENCES), verbose=0)
    assert_close(predicted, classifier_output(model, TOKENS))
    for dtype in ("int16", "int64", "uint16"):
        assert_close(model(ids(SENTENCES, dtype)), predicted)


def test_fixed_timesteps(embed: ElmoEmbedding) -> None:
    model = classifier(embed, (3,))
    assert model.layers[0].output.shape == (None, 3, 12)
    assert_close(model.predict(TOKENS, verbose=0), classifier_output(model, TOKENS))


def classifier_output(model: keras.Model, batch: tf.Tensor) -> np.ndarray:
    """What a `classifier` gives, computed row by row without padding."""
    embed, _, dense = model.layers
    rows = [embed(row[row != ""][tf.newaxis]).numpy().mean(axis=1) for row in batch]
    return dense(np.concatenate(rows)).numpy()


def test_subclassed_model(small: ElmoConfig) -> None:
    class Model(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.embed = ElmoEmbedding(small, dropout=0.0)
            self.pool = keras.layers.GlobalAveragePooling1D()
            self.dense = keras.layers.Dense(1, activation="sigmoid")

        def call(self, inputs: Any) -> Any:
            return self.dense(self.pool(self.embed(inputs)))

    model = Model()
    model.compile("sgd", "binary_crossentropy")
    model.fit(TOKENS, LABELS, verbose=0)
    assert len(model.trainable_weights) == 4
    assert_close(model(TOKENS), classifier_output(model, TOKENS))


def test_a_layer_used_twice_is_one_layer(embed: ElmoEmbedding) -> None:
    first, second = keras.Input((None,), dtype="string"), keras.Input((None,), dtype="string")
    model = keras.Model([first, second], [embed(first), embed(second)])
    assert len(model.weights) == 2
    one, two = model([TOKENS, TOKENS[:, :1]])
    assert_close(one, embed(TOKENS))
    assert_close(two, embed(TOKENS[:, :1]))


def test_clone_model_has_weights_of_its_own(small: ElmoConfig) -> None:
    model = classifier(ElmoEmbedding(small, dropout=0.0))
    clone = keras.models.clone_model(model)
    mix = model.layers[0].scalar_mix
    mix.gamma.assign(5.0)
    assert float(clone.layers[0].scalar_mix.gamma) == 1.0
    clone.set_weights(model.get_weights())
    assert_close(clone(TOKENS), model(TOKENS))


@pytest.mark.parametrize("name", ["LSTM", "Bidirectional", "GlobalAveragePooling1D"])
def test_layers_downstream_honour_the_mask(name: str, embed: ElmoEmbedding, vectors: tf.Tensor) -> None:
    layer = {
        "LSTM": keras.layers.LSTM(3),
        "Bidirectional": keras.layers.Bidirectional(keras.layers.LSTM(3)),
        "GlobalAveragePooling1D": keras.layers.GlobalAveragePooling1D(),
    }[name]
    inputs = keras.Input((None,), dtype="string")
    model = keras.Model(inputs, layer(embed(inputs)))
    by_hand = np.concatenate([layer(vectors[:1, :3]), layer(vectors[1:, :1])])
    assert_close(model(TOKENS), by_hand)
    assert_close(tf.function(model)(TOKENS), by_hand)
    assert np.abs(layer(vectors)[1] - by_hand[1]).max() > 1e-3, "this test cannot see the mask"


def test_losses_honour_the_mask(embed: ElmoEmbedding) -> None:
    tagger = keras.Sequential([keras.Input((None,), dtype="string"), embed, keras.layers.Dense(2)])
    tagger.compile("sgd", "mse")
    wanted = np.ones((2, 3, 2))
    errors = np.mean((tagger(TOKENS) - wanted) ** 2, axis=-1)
    assert_close(tagger.evaluate(TOKENS, wanted, verbose=0), errors[MASK].mean())


def test_the_mix_trains_and_the_loss_falls(small: ElmoConfig) -> None:
    layer = ElmoEmbedding(small, dropout=0.0)
    model = classifier(layer)
    dense = model.layers[-1]
    dense.set_weights([np.linspace(-1, 1, 12)[:, np.newaxis], np.zeros(1)])
    dense.trainable = False  # so that the mix alone can lower the loss
    model.compile(keras.optimizers.SGD(1.0), "binary_crossentropy")
    before = [weight.numpy() for weight in layer.trainable_weights]
    history = model.fit(TOKENS, LABELS, epochs=10, verbose=0).history["loss"]
    assert all(np.diff(history) < 0)
    for weight, old in zip(layer.trainable_weights, before, strict=True):
        assert np.abs(weight.numpy() - old).max() > 0.01, weight.path


def test_trainable_can_be_toggled(small: ElmoConfig) -> None:
    layer = ElmoEmbedding(small, trainable=False)
    model = classifier(layer)
    assert (len(layer.trainable_weights), len(layer.non_trainable_weights)) == (0, 2)
    model.train_on_batch(TOKENS, LABELS)
    np.testing.assert_array_equal(layer.scalar_mix.scalar_parameters, [0, 0, 0])
    assert float(layer.scalar_mix.gamma) == 1.0

    layer.trainable = True
    assert (len(layer.trainable_weights), len(layer.non_trainable_weights)) == (2, 0)
    model.compile("sgd", "binary_crossentropy")
    model.train_on_batch(TOKENS, LABELS)
    assert float(layer.scalar_mix.gamma) != 1.0


def test_a_fixed_mix_stays_fixed_when_the_model_is_thawed(small: ElmoConfig) -> None:
    """Freezing and thawing a whole model is how Keras users fine-tune in two stages."""
    layer = ElmoEmbedding(small, scalar_mix_parameters=[0.0, 1.0, 2.0])
    model = classifier(layer)
    for trainable in (False, True):
        model.trainable = trainable
        assert not layer.trainable_weights
    assert len(model.trainable_weights) == 2  # the Dense layer's
    assert layer.trainable
    np.testing.assert_array_equal(layer.scalar_mix.scalar_parameters, [0, 1, 2])


@pytest.mark.slow
def test_run_eagerly(small: ElmoConfig) -> None:
    """A step in eager mode and the same step in a graph end at the same weights."""
    results = []
    for run_eagerly in (False, True):
        keras.utils.set_random_seed(1)
        model = classifier(ElmoEmbedding(small, dropout=0.0))
        model.compile(keras.optimizers.SGD(0.5), "binary_crossentropy", run_eagerly=run_eagerly)
        model.fit(TOKENS, LABELS, verbose=0)
        results.append([weight.numpy() for weight in model.weights])
    for in_graph, eager in zip(*results, strict=True):
        assert_close(eager, in_graph)


USES: dict[str, Callable[[ElmoEmbedding], Any]] = {
    "nothing": lambda layer: None,
    "an eager call": lambda layer: layer(TOKENS),
    "a graph": lambda layer: tf.function(layer)(TOKENS),
    "a dataset": lambda layer: list(tf.data.Dataset.from_tensors(TOKENS).map(layer)),
    "predict": lambda layer: classifier(layer).predict(TOKENS, verbose=0),
    "fit": lambda layer: classifier(layer).fit(TOKENS, LABELS, verbose=0),
}


@pytest.mark.slow
@pytest.mark.parametrize("use", USES)
def test_pytorchs_model_goes_with_the_layer(use: str, small: ElmoConfig) -> None:
    layer = ElmoEmbedding(small)
    used = USES[use](layer)
    alive = weakref.ref(layer.encoder.module)
    del layer, used
    for _ in range(3):  # Keras and TensorFlow tie cycles of cycles
        gc.collect()
    assert alive() is None


def test_xla_is_declined(small: ElmoConfig) -> None:
    """XLA can't compile a call into PyTorch; on a GPU Keras would try unless the layer says so."""
    model = classifier(ElmoEmbedding(small))
    with pytest.warns(UserWarning, match="Model doesn't support `jit_compile=True`"):
        model.compile("sgd", "binary_crossentropy", jit_compile=True)
    assert not model.jit_compile


@pytest.mark.slow
def test_batches_of_any_length_share_a_trace(small: ElmoConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    traced: list[tuple[int | None, ...]] = []
    call = ElmoEmbedding.call

    @wraps(call)
    def counting(self: ElmoEmbedding, inputs: Any, mask: Any = None, training: bool | None = None) -> Any:
        if not tf.executing_eagerly():
            traced.append(tuple(inputs.shape))
        return call(self, inputs, mask, training)

    counting.__signature__ = inspect.signature(call)  # type: ignore[attr-defined]  # Keras reads it
    monkeypatch.setattr(ElmoEmbedding, "call", counting)
    model = classifier(ElmoEmbedding(small))
    sentences = [["word"] * length for length in range(1, 10)]
    rows = tf.data.Dataset.from_tensor_slices((tf.ragged.constant(sentences), np.ones((9, 1))))
    batches = rows.batch(2).map(lambda words, labels: (words.to_tensor(), labels))
    model.fit(batches, epochs=2, verbose=0, shuffle=False)
    assert traced == [(None, None)]
    traced.clear()
    for length in range(1, 6):  # tensors have exact shapes: Keras relaxes them after the first
        model.predict(tokens([["word"] * length]), verbose=0)
    assert len(traced) <= 2
