"""Five thousand calls, and the process is no larger."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from layers.tuning import gradients, live_graphs, tiny_model, tunable

from bridge import ElmoConfig, ElmoEmbedding, ElmoEncoder, batch_to_ids

CALLS, WARM_UP = 5000, 300
# Ids and activations of a call are 8 KiB: kept, they were 40 MiB.
ALLOWED = 10.0
# Another text at each call, of another length: nothing may be kept by what was called with.
BATCHES = [batch_to_ids([[f"w{number}"] * (1 + (number + row) % 3) for row in range(8)]) for number in range(50)]


def resident_mebibytes() -> float:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def growth(call: Callable[[np.ndarray], Any], calls: int) -> float:
    """MiB by which the process grows in so many calls, after others that fill its caches."""
    for number in range(min(WARM_UP, calls)):
        call(BATCHES[number % len(BATCHES)])
    before = resident_mebibytes()
    for number in range(calls):
        call(BATCHES[number % len(BATCHES)])
    return resident_mebibytes() - before


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("use", ["encoder", "encoder of AllenNLP", "eager", "graph", "predict_on_batch"])
def test_calls_do_not_grow_memory(small: ElmoConfig, use: str) -> None:
    layer = ElmoEmbedding(small)
    encoder, allennlp = ElmoEncoder(small), ElmoEncoder(small, engine="allennlp")
    graph = tf.function(layer, input_signature=[tf.TensorSpec((None, None, 50), tf.int32)])
    model = keras.Sequential([keras.Input((None, 50), dtype="int32"), layer])
    uses: dict[str, Callable[[np.ndarray], Any]] = {
        "encoder": encoder,
        "encoder of AllenNLP": allennlp,
        "eager": layer,
        "graph": lambda ids: graph(tf.constant(ids)),
        "predict_on_batch": lambda ids: model.predict_on_batch(tf.constant(ids)),
    }
    calls = CALLS if use in ("encoder", "eager", "graph") else CALLS // 5
    grown = growth(uses[use], calls)
    print(f"{use}: {grown:.1f} MiB in {calls} calls")
    assert grown < ALLOWED


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's /proc")
def test_failing_calls_do_not_grow_memory(small: ElmoConfig) -> None:
    layer = ElmoEmbedding(small)
    graph = tf.function(layer, input_signature=[tf.TensorSpec((None, None, 50), tf.int32)])

    def fail(ids: np.ndarray) -> None:
        with pytest.raises(ValueError, match="261"):
            layer(np.where(ids > 0, 999, ids))
        with pytest.raises(tf.errors.InvalidArgumentError, match="261"):
            graph(tf.constant(np.where(ids > 0, 999, ids)))

    assert growth(fail, calls=100) < ALLOWED


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's /proc")
def test_gradients_do_not_grow_memory(tmp_path: Path) -> None:
    layer = tunable(tiny_model(tmp_path))
    grown = growth(lambda ids: gradients(layer, tf.constant(ids[:2])), calls=200)
    print(f"gradients: {grown:.1f} MiB in 200 calls")
    assert grown < ALLOWED
    assert live_graphs(layer) == 0
