"""Eight threads at once on one layer, one model and one encoder: what one thread gets."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
import torch
from layers.harness import assert_close, tokens
from layers.tuning import gradients, live_graphs, tiny_model, tunable

from bridge import ElmoConfig, ElmoEmbedding, ElmoEncoder, batch_to_ids
from bridge.encoder.arguments import Engine

THREADS, ROUNDS = 8, 3
# Another batch for each thread, of another length.
BATCHES = [[[f"w{thread}", "x", f"{row}"] * (thread + 1) for row in range(3)] for thread in range(THREADS)]


def in_threads(work: Callable[[int], Any]) -> list[Any]:
    """What `work(0)` to `work(7)` give, begun at once."""
    begin = threading.Barrier(THREADS)

    def run(index: int) -> Any:
        begin.wait(60)
        return work(index)

    with ThreadPoolExecutor(THREADS) as threads:
        return list(threads.map(run, range(THREADS), timeout=200))


def assert_all_the_same(use: Callable[[int], Any], wanted: list[Any], tolerance: float = 1e-5) -> None:
    for index, results in enumerate(in_threads(lambda index: [use(index) for _ in range(ROUNDS)])):
        for result in results:
            assert_close(result, wanted[index], tolerance)


def make_model(layer: ElmoEmbedding) -> keras.Model:
    return keras.Sequential([keras.Input((None,), dtype="string"), layer])


@pytest.mark.parametrize("engine", ["fused", pytest.param("allennlp", marks=pytest.mark.slow)])
def test_one_frozen_layer(small: ElmoConfig, engine: Engine) -> None:
    layer = ElmoEmbedding(small, engine=engine)
    inputs = [tokens(batch) for batch in BATCHES]
    # The oracle: another encoder, one thread, one sentence at a time.
    encoder = ElmoEncoder(small, engine="allennlp")
    wanted = [
        np.stack([encoder.embed([sentence], layers="average")[0] for sentence in sentences]) for sentences in BATCHES
    ]
    graph = tf.function(layer, input_signature=[tf.TensorSpec((None, None), tf.string)])
    assert_all_the_same(lambda index: layer(inputs[index]), wanted)  # which build it, too
    assert_all_the_same(lambda index: graph(inputs[index]), wanted)


@pytest.mark.slow
@pytest.mark.parametrize(("engine", "threads_of_torch"), [("fused", 2), ("allennlp", 1)])
def test_one_encoder(small: ElmoConfig, engine: Engine, threads_of_torch: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads_of_torch)
    try:
        encoder = ElmoEncoder(small, engine=engine, max_tokens_per_pass=16, token_cache_bytes=4000)
        ids = [batch_to_ids(batch) for batch in BATCHES]
        oracle = ElmoEncoder(small, engine="allennlp")
        wanted = [oracle(batch).activations for batch in ids]
        assert_all_the_same(lambda index: encoder(ids[index]).activations, wanted)
    finally:
        torch.set_num_threads(before)


@pytest.mark.slow
def test_one_model_predicts(small: ElmoConfig) -> None:
    """Keras makes the function of `predict` at the first call, in whichever thread."""
    layer = ElmoEmbedding(small, pooling="mean")
    wanted = [layer(tokens(batch)) for batch in BATCHES]
    model = make_model(layer)
    model.make_predict_function()
    assert_all_the_same(lambda index: model.predict_on_batch(tokens(BATCHES[index])), wanted)


@pytest.mark.slow
def test_one_model_predicts_whole_data_sets(small: ElmoConfig) -> None:
    layer = ElmoEmbedding(small, pooling="mean")
    inputs = [tf.repeat(tokens(batch), 20, axis=0) for batch in BATCHES]
    wanted = [layer(batch) for batch in inputs]
    model = make_model(layer)
    assert_all_the_same(lambda index: model.predict(inputs[index], batch_size=7, verbose=0), wanted)


@pytest.mark.slow
def test_gradients_of_one_fine_tuned_layer(tmp_path_factory: pytest.TempPathFactory) -> None:
    """One module called from two threads gave wrong gradients, and no error."""
    layer = tunable(tiny_model(tmp_path_factory.mktemp("tiny")), dtype="float64")
    ids = [tf.constant(batch_to_ids(batch)) for batch in BATCHES]
    wanted = [[value.numpy() for value in gradients(layer, batch)] for batch in ids]
    graph = tf.function(lambda x: gradients(layer, x), input_signature=[tf.TensorSpec((None, None, 50), tf.int32)])
    graph(ids[0])  # TensorFlow's own tracing is not what is tested

    def work(index: int) -> list[Any]:
        return [use(ids[index]) for use in (lambda x: gradients(layer, x), graph) for _ in range(2)]

    for index, results in enumerate(in_threads(work)):
        for received in results:
            for one, other in zip(received, wanted[index], strict=True):
                assert_close(one, other, 1e-10)
    assert live_graphs(layer) == 0


@pytest.mark.slow
def test_training_beside_prediction(small: ElmoConfig, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A layer that trains in one thread does not disturb another that predicts, nor the modes of PyTorch."""
    trained, frozen = tunable(tiny_model(tmp_path_factory.mktemp("tiny"))), ElmoEmbedding(small)
    ids = [tf.constant(batch_to_ids(batch)) for batch in BATCHES]
    wanted = [frozen(batch).numpy() for batch in ids]
    of_gradients = [[value.numpy() for value in gradients(trained, batch)] for batch in ids]

    def work(index: int) -> None:
        with torch.inference_mode(index % 3 == 0):
            for _ in range(ROUNDS):
                if index % 2:
                    assert_close(frozen(ids[index]), wanted[index])
                else:
                    for one, other in zip(gradients(trained, ids[index]), of_gradients[index], strict=True):
                        assert_close(one, other)

    in_threads(work)
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()


@pytest.mark.slow
def test_carried_states_of_layers_in_threads_of_their_own(small: ElmoConfig) -> None:
    layers = [ElmoEmbedding(small, state="carry", output_mode="top") for _ in range(THREADS)]
    encoders = [ElmoEncoder(small, state="carry", engine="allennlp") for _ in range(THREADS)]
    ids = [batch_to_ids(batch) for batch in BATCHES]
    wanted = [
        [encoder(batch).activations[:, :, -1] for _ in range(ROUNDS)]
        for encoder, batch in zip(encoders, ids, strict=True)
    ]
    for received, expected in zip(
        in_threads(lambda index: [layers[index](ids[index]) for _ in range(ROUNDS)]), wanted, strict=True
    ):
        for one, other in zip(received, expected, strict=True):
            assert_close(one, other)
