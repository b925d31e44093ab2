"""The layer inside `tf.data`, in as many threads as it likes: right values, errors, and an end."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from layers.harness import assert_close, tokens
from load.programs import run

from bridge import ElmoConfig, ElmoEmbedding, ElmoEncoder
from bridge.encoder.arguments import Engine

SENTENCES = [[f"w{number}", "x", f"y{number % 5}"] for number in range(48)]


def texts() -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices(tokens(SENTENCES)).batch(2)


@pytest.mark.parametrize("engine", ["fused", pytest.param("allennlp", marks=pytest.mark.slow)])
def test_parallel_maps(small: ElmoConfig, engine: Engine) -> None:
    layer = ElmoEmbedding(small, engine=engine)
    wanted = np.stack(ElmoEncoder(small, engine="allennlp").embed(SENTENCES, layers="average"))
    data = texts().map(layer, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)
    for _ in range(2):  # two epochs
        assert_close(np.concatenate(list(data.as_numpy_iterator())), wanted)
    unordered = texts().enumerate().map(lambda i, x: (i, layer(x)), num_parallel_calls=8, deterministic=False)
    received = {int(number): vectors for number, vectors in unordered.as_numpy_iterator()}
    assert_close(np.concatenate([received[number] for number in range(24)]), wanted)


def test_an_iterator_that_is_abandoned_leaves_the_layer_free(small: ElmoConfig) -> None:
    layer = ElmoEmbedding(small)
    data = texts().repeat().map(layer, num_parallel_calls=4).prefetch(8)
    wanted = next(iter(data))
    for _ in range(5):
        for count, vectors in enumerate(data):
            assert vectors.shape == (2, 3, 12)
            if count == 2:
                break
        assert_close(layer(tokens(SENTENCES[:2])), wanted)


@pytest.mark.slow
def test_two_data_sets_and_a_model_share_a_layer(small: ElmoConfig) -> None:
    layer = ElmoEmbedding(small, pooling="mean")
    model = keras.Sequential([keras.Input((None,), dtype="string"), layer])
    predicted = model.predict(tokens(SENTENCES), batch_size=8, verbose=0)
    mapped = texts().map(layer, num_parallel_calls=4).prefetch(4)
    pairs = tf.data.Dataset.zip((mapped, mapped))
    for number, (one, other) in enumerate(pairs.as_numpy_iterator()):
        assert_close(one, predicted[2 * number : 2 * number + 2])
        assert_close(other, one, 1e-6)
        if number % 8 == 0:
            assert_close(model.predict(tokens(SENTENCES), verbose=0), predicted, 1e-6)


def test_an_error_in_a_map_arrives_and_the_next_epoch_works(small: ElmoConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = ElmoEmbedding(small)
    data = texts().map(layer, num_parallel_calls=4)
    with monkeypatch.context() as patch:
        patch.setattr(ElmoEncoder, "_encode", lambda *arguments: 1 / 0)
        with pytest.raises(tf.errors.UnknownError, match="ZeroDivisionError: division by zero"):
            list(data)
    assert len(list(data)) == 24


# The process ends while TensorFlow's threads are inside PyTorch, or wait for a turn.
ENDS = """
layer = ElmoEmbedding(config, pooling="mean")
batches = tf.data.Dataset.from_tensors(tokens()).repeat()
data = batches.map(layer, num_parallel_calls=4).prefetch(50)
how = sys.argv[1]
if how == "abandoned":
    for vectors in data:
        break
elif how == "kept":
    iterators = [iter(data) for _ in range(3)]
    print([next(iterator).shape for iterator in iterators])
elif how == "error":
    iterator = iter(data)
    next(iterator)
    sys.excepthook = lambda *error: print("the error was told")
    raise ValueError
elif how == "fit":
    model = keras.Sequential([keras.Input((12,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    model.fit(data.map(lambda x: (x, x[:, :1])), steps_per_epoch=3, verbose=0)
print("ends")
"""


@pytest.mark.slow
@pytest.mark.parametrize(("how", "code"), [("abandoned", 0), ("kept", 0), ("fit", 0), ("error", 1)])
def test_the_process_ends_while_a_data_set_reads_ahead(how: str, code: int, tmp_path: Path) -> None:
    printed = run(ENDS, tmp_path, how, code=code, timeout=120)
    assert printed.splitlines()[-1] == ("the error was told" if how == "error" else "ends")
