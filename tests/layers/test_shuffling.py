"""`state="carry"` inside `fit`: data out of order is refused, in words, and nothing else is."""

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
import torch
from layers.tuning import IDS, regressor, tiny_model

from bridge import ElmoConfig, ElmoEmbedding
from bridge.errors import UnsupportedError

X, Y = np.repeat(IDS.numpy(), 2, axis=0), np.zeros((4, 1))
PAIRS = tf.data.Dataset.from_tensor_slices((X, Y))
BATCHES = PAIRS.batch(2)
REFUSED = r"must be trained in the order of the text.* Received: a `fit` that shuffles\. Pass `shuffle=False`"


class Batches(keras.utils.PyDataset):
    """Two batches, which Keras may ask for in any order."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return X[2 * index : 2 * index + 2], Y[2 * index : 2 * index + 2]


class EndlessBatches(Batches):
    """Keras never reorders what has no end."""

    @property
    def num_batches(self) -> None:
        return None


def loader(**options: Any) -> torch.utils.data.DataLoader:
    return torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(torch.from_numpy(X), torch.from_numpy(Y)), **options
    )


def random_batches() -> torch.utils.data.DataLoader:
    sampler = torch.utils.data.BatchSampler(torch.utils.data.RandomSampler(X), 2, drop_last=False)
    return loader(batch_sampler=sampler)


def generator() -> Iterator[tuple[np.ndarray, np.ndarray]]:
    while True:
        yield from zip(X.reshape(2, 2, *X.shape[1:]), Y.reshape(2, 2, 1), strict=True)


SHUFFLED: dict[str, Callable[[], dict[str, Any]]] = {
    "arrays, as Keras has it": lambda: {"x": X, "y": Y},
    "arrays": lambda: {"x": X, "y": Y, "shuffle": True},
    "tensors": lambda: {"x": tf.constant(X), "y": Y},
    "torch tensors": lambda: {"x": torch.from_numpy(X), "y": Y},
    "a part of the arrays": lambda: {"x": X, "y": Y, "validation_split": 0.5},
    "PyDataset, as Keras has it": lambda: {"x": Batches()},
    "Dataset.shuffle": lambda: {"x": PAIRS.shuffle(4).batch(2), "shuffle": False},
    "Dataset.shuffle of batches": lambda: {"x": BATCHES.shuffle(2), "shuffle": False},
    "Dataset.shuffle, deep down": lambda: {
        "x": tf.data.Dataset.zip(PAIRS.map(lambda x, y: x).shuffle(4).cache(), PAIRS.map(lambda x, y: y))
        .batch(2)
        .map(lambda x, y: (x, y))
        .prefetch(1),
        "shuffle": False,
    },
    "DataLoader": lambda: {"x": loader(batch_size=2, shuffle=True), "shuffle": False},
    "DataLoader of random batches": lambda: {"x": random_batches(), "shuffle": False},
}
IN_ORDER: dict[str, Callable[[], dict[str, Any]]] = {
    "arrays": lambda: {"x": X, "y": Y, "shuffle": False},
    "a part of the arrays": lambda: {"x": X, "y": Y, "validation_split": 0.5, "shuffle": False},
    "PyDataset": lambda: {"x": Batches(), "shuffle": False},
    "PyDataset without end": lambda: {"x": EndlessBatches(), "shuffle": False, "steps_per_epoch": 2},
    "Dataset": lambda: {"x": BATCHES.repeat(2).prefetch(1), "shuffle": False},
    "Dataset.shuffle in validation": lambda: {"x": BATCHES, "validation_data": BATCHES.shuffle(2), "shuffle": False},
    "DataLoader": lambda: {"x": loader(batch_size=2), "shuffle": False},
    "generator": lambda: {"x": generator(), "shuffle": False, "steps_per_epoch": 2},
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> ElmoConfig:
    return tiny_model(tmp_path_factory.mktemp("tiny"))


def compiled(model: keras.Model, run_eagerly: bool = False) -> keras.Model:
    model.compile("sgd", "mse", run_eagerly=run_eagerly)
    return model


@pytest.fixture(scope="module")
def model(tiny: ElmoConfig) -> keras.Model:
    return compiled(regressor(ElmoEmbedding(tiny, state="carry")), run_eagerly=True)


@pytest.mark.parametrize("data", SHUFFLED)
def test_shuffled(data: str, model: keras.Model) -> None:
    with pytest.raises(UnsupportedError, match=REFUSED):
        model.fit(**SHUFFLED[data](), verbose=0)


@pytest.mark.parametrize("data", IN_ORDER)
def test_in_order(data: str, model: keras.Model) -> None:
    model.fit(**IN_ORDER[data](), verbose=0)


def test_evaluate_and_predict_take_any_data(model: keras.Model) -> None:
    model.evaluate(X, Y, verbose=0)
    model.predict(X, verbose=0)
    model.predict(PAIRS.shuffle(4).batch(2).map(lambda x, y: x), verbose=0)


def test_predict_inside_a_fit_in_order(model: keras.Model) -> None:
    class Predict(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.model.predict(X, verbose=0)

    model.fit(X, Y, shuffle=False, callbacks=[Predict()], verbose=0)


@pytest.mark.slow
@pytest.mark.parametrize("requires_grad", [False, True])
def test_graphs(requires_grad: bool, tiny: ElmoConfig) -> None:
    """Refused when the graph is traced; and when it runs, for a later `fit` does not trace it again."""
    layer = ElmoEmbedding(tiny, state="carry", requires_grad=requires_grad)
    model = compiled(regressor(layer))
    with pytest.raises(UnsupportedError, match=REFUSED):
        model.fit(X, Y, batch_size=2, verbose=0)
    model.fit(X, Y, batch_size=2, shuffle=False, verbose=0)
    with pytest.raises(tf.errors.UnimplementedError, match=REFUSED):
        model.fit(X, Y, batch_size=2, verbose=0)
    model.fit(X, Y, batch_size=2, shuffle=False, validation_data=(X, Y), verbose=0)
    model.predict(X, verbose=0)


def test_a_model_that_hands_on_no_training_argument(tiny: ElmoConfig) -> None:
    """Keras calls its layers as outside of training."""

    class Model(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.inner = regressor(ElmoEmbedding(tiny, state="carry"))

        def call(self, inputs: Any) -> Any:
            return self.inner(inputs)

    with pytest.raises(UnsupportedError, match=REFUSED):
        compiled(Model(), run_eagerly=True).fit(X, Y, verbose=0)


@pytest.mark.parametrize("state", ["zero", "warm"])
def test_other_states_may_be_shuffled(state: Any, tiny: ElmoConfig) -> None:
    compiled(regressor(ElmoEmbedding(tiny, state=state)), run_eagerly=True).fit(X, Y, verbose=0)


def test_another_models_fit_is_not_meant(tiny: ElmoConfig, model: keras.Model) -> None:
    """A layer that a user calls by hand, while another model is in `fit`."""
    carrying = ElmoEmbedding(tiny, state="carry")
    in_graph = tf.function(carrying)

    class Call(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            carrying(IDS)
            in_graph(IDS)

    other = compiled(keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)]), run_eagerly=True)
    other.fit(Y, Y, callbacks=[Call()], verbose=0)
