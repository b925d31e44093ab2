"""What goes wrong inside a call into PyTorch: the error arrives with its text, and the layer goes on."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
import torch
from layers.harness import SENTENCES, assert_close, tokens
from layers.tuning import gradients, live_graphs, tiny_model, tunable

from bridge import ElmoConfig, ElmoEmbedding, ElmoEncoder, batch_to_ids
from bridge.encoder.arguments import Engine
from bridge.errors import CheckpointError, InputValueError, ProcessError, UnsupportedError

OUT_OF_MEMORY = "CUDA out of memory. Tried to allocate 2.00 GiB"
# What is raised inside, and what TensorFlow's graphs make of it.
ERRORS: list[tuple[BaseException, type[BaseException]]] = [
    (RuntimeError(OUT_OF_MEMORY), tf.errors.UnknownError),
    (torch.OutOfMemoryError(OUT_OF_MEMORY), tf.errors.UnknownError),
    (MemoryError("Unable to allocate 93.1 GiB"), tf.errors.ResourceExhaustedError),
    (InputValueError("`char_ids` must be right. Received: wrong."), tf.errors.InvalidArgumentError),
    (CheckpointError("weights.hdf5 is gone"), tf.errors.InvalidArgumentError),
    (ProcessError("the process was forked"), tf.errors.UnknownError),
    (KeyboardInterrupt("Ctrl-C"), tf.errors.UnknownError),
]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> ElmoConfig:
    return tiny_model(tmp_path_factory.mktemp("tiny"))


class Breaking:
    """Makes the biLM of every encoder fail while `error` is set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.error: BaseException | None = None
        encode = ElmoEncoder._encode

        def encode_or_fail(*arguments: Any) -> Any:
            if self.error is not None:
                raise self.error.with_traceback(None)
            return encode(*arguments)

        monkeypatch.setattr(ElmoEncoder, "_encode", encode_or_fail)


@pytest.fixture
def breaking(monkeypatch: pytest.MonkeyPatch) -> Breaking:
    return Breaking(monkeypatch)


def make_model(config: ElmoConfig, **options: Any) -> keras.Model:
    layer = ElmoEmbedding(config, pooling="mean", dropout=0.0, **options)
    model = keras.Sequential([keras.Input((None,), dtype="string"), layer, keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.0), "mse")
    return model


@pytest.mark.parametrize("requires_grad", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_errors_arrive_with_their_text_and_the_model_goes_on(
    tiny: ElmoConfig, breaking: Breaking, requires_grad: bool
) -> None:
    model, x = make_model(tiny, requires_grad=requires_grad), tokens(SENTENCES)
    layer, y = model.layers[0], np.zeros((2, 1))
    uses: dict[str, Callable[[], Any]] = {
        "graph": tf.function(lambda: layer(x)),
        "predict": lambda: model.predict(x, verbose=0),
        "fit": lambda: model.fit(x, y, verbose=0),
    }
    eagerly, wanted = layer(x), {name: use() for name, use in uses.items() if name != "fit"}
    for error, in_graph in ERRORS:
        breaking.error = error
        with pytest.raises(type(error), match=str(error)[-20:]):
            layer(x)
        for use in uses.values():
            with pytest.raises(in_graph, match=f"{type(error).__name__}: {error}"):
                use()
        breaking.error = None
        assert_close(layer(x), eagerly)
        for name, result in wanted.items():
            assert_close(uses[name](), result)
    uses["fit"]()
    if requires_grad:
        assert live_graphs(layer) == 0


@pytest.mark.slow
def test_a_stop_iteration_does_not_end_a_training_in_silence(small: ElmoConfig, breaking: Breaking) -> None:
    """TensorFlow takes it for the end of the data."""
    model, x = make_model(small), tokens(SENTENCES)
    data = tf.data.Dataset.from_tensors(x)
    breaking.error = StopIteration("from somewhere inside")
    for use in (
        lambda: model.fit(x, np.zeros((2, 1)), verbose=0),
        lambda: model.predict(x, verbose=0),
        lambda: list(data.map(model.layers[0])),
        lambda: model.layers[0](x),
    ):
        with pytest.raises((tf.errors.UnknownError, RuntimeError), match="from somewhere inside"):
            use()


def test_an_error_in_the_gradient_arrives_and_the_next_gradient_is_right(
    tiny: ElmoConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = tunable(tiny, dtype="float64")
    wanted = gradients(layer)
    graph = tf.function(lambda: gradients(layer))
    graph()

    def fail(*arguments: Any, **more: Any) -> Any:
        raise RuntimeError(OUT_OF_MEMORY)

    with monkeypatch.context() as patch:
        patch.setattr(torch.autograd, "grad", fail)
        with pytest.raises(RuntimeError, match=OUT_OF_MEMORY):
            gradients(layer)
        with pytest.raises(tf.errors.UnknownError, match=OUT_OF_MEMORY):
            graph()
    for received in (gradients(layer), graph()):
        for one, other in zip(received, wanted, strict=True):
            assert_close(one, other, 1e-10)
    assert live_graphs(layer) == 0


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["amid", "after"])
@pytest.mark.parametrize("engine", ["fused", "allennlp"])
def test_a_failure_leaves_the_carried_state_alone(
    small: ElmoConfig, monkeypatch: pytest.MonkeyPatch, engine: Engine, moment: str
) -> None:
    error = KeyboardInterrupt("Ctrl-C") if moment == "amid" else RuntimeError(OUT_OF_MEMORY)
    failing, other = (ElmoEmbedding(small, state="carry", engine=engine, output_mode="all") for _ in range(2))
    first, second = (tokens(sentences) for sentences in (SENTENCES, [["A", "smaller", "batch"]]))
    graph = tf.function(failing)
    for x in (first, second):
        assert_close(graph(x), other(x))
    bilm = failing.encoder.module._elmo_lstm
    method = "encode" if engine == "fused" else "forward"
    run, calls = getattr(bilm, method), []

    def fail(*arguments: Any, **more: Any) -> None:
        calls.append(arguments)
        if moment == "after":
            run(*arguments, **more)
        raise error.with_traceback(None)

    with monkeypatch.context() as patch:
        if moment == "amid":  # in the last LSTM layer, after others have run
            lstm = bilm._directions[1]._cells[1] if engine == "fused" else bilm._elmo_lstm.backward_layer_1
            patch.setattr(lstm, "step" if engine == "fused" else "forward", fail)
        else:
            patch.setattr(bilm, method, fail)
        with pytest.raises(type(error), match=str(error)[-20:]):
            failing(second)
        with pytest.raises(tf.errors.UnknownError, match=str(error)):
            graph(first)
    assert len(calls) == 2
    assert_close(graph(second), other(second))
    assert_close(failing(first), other(first))


def test_autograph_keeps_the_kinds_of_our_errors(small: ElmoConfig) -> None:
    """While it traces: an `except InputValueError` around a user's own function works."""
    layer = ElmoEmbedding(small)

    @tf.function
    def embed(x: tf.Tensor) -> tf.Tensor:
        return layer(x)

    with pytest.raises(InputValueError, match="50"):
        embed(tf.zeros((2, 3, 7), tf.int32))


@pytest.mark.parametrize("how", ["copy", "deepcopy", "pickle"])
def test_an_encoder_is_not_copied(small: ElmoConfig, how: str) -> None:
    encoder = ElmoEncoder(small)
    copies: dict[str, Callable[[Any], Any]] = {"copy": copy.copy, "deepcopy": copy.deepcopy, "pickle": pickle.dumps}
    with pytest.raises(UnsupportedError, match=r"An ElmoEncoder must not be copied, pickled or sent .* make one there"):
        copies[how](encoder)


def test_a_layer_is_copied_with_its_weights(tiny: ElmoConfig) -> None:
    layer = ElmoEmbedding(tiny, requires_grad=True)
    ids = batch_to_ids(SENTENCES)
    layer(ids)
    layer.scalar_mix.gamma.assign(2.5)
    assert_close(pickle.loads(pickle.dumps(layer))(ids), layer(ids), 1e-6)
