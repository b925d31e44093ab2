"""Processes end while TensorFlow's threads still call Python: real ones, several at a time."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import pytest
import tensorflow as tf

from bridge.python_calls import counted, numpy_function, py_function

STORE = """
import sys
from bridge import FeatureStore
iterator = iter(FeatureStore.open(sys.argv[1]).dataset(batch_size=2, pool_tokens=16))
print(next(iterator).shape)
"""
LAYER = """
import tensorflow as tf
from bridge import ElmoEmbedding
embed = ElmoEmbedding("demo")
tokens = tf.data.Dataset.from_tensors(tf.constant([["a", "b", "c", "d"]] * 2)).repeat(10_000)
iterator = iter(tokens.map(embed, num_parallel_calls=2).prefetch(100))
print(next(iterator).shape)
"""
TRAINED_LAYER = LAYER.replace('ElmoEmbedding("demo")', 'ElmoEmbedding("demo", requires_grad=True)')
EXAMPLES = """
from bridge.heads.data import LabelledData
from bridge.text.readers import Example
data = LabelledData([Example(["a", "b", "c", "d"], "x", "here")] * 400, ["x", "y"])
iterator = iter(data.batches(2, shuffle_seed=0).repeat())
print(next(iterator)[0].shape)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("program", "printed"),
    [(STORE, "(2, 4, 3, 4)"), (LAYER, "(2, 4, 128)"), (TRAINED_LAYER, "(2, 4, 128)"), (EXAMPLES, "(2, 4)")],
)
def test_a_process_ends_while_a_dataset_reads_ahead(program: str, printed: str, tmp_path: Path) -> None:
    path = tmp_path / "features.hdf5"
    with h5py.File(path, "w") as file:  # as AllenNLP's own command writes it
        for number in range(600):
            file[str(number)] = np.zeros((3, 4, 4), np.float32)
    command = [sys.executable, "-c", program, str(path)]

    def run(_: int) -> str:
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=200)
        return done.stdout.strip()

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(run, range(4))) == [printed] * 4


def test_calls_give_what_the_function_gives() -> None:
    @tf.function
    def graph(x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        double = py_function(counted(lambda x: x * 2), [x], tf.float32, name="double")
        return double, numpy_function(counted(lambda x: x + 1), [x], tf.float32)

    double, more = graph(tf.constant([1.0, 2.0]))
    np.testing.assert_array_equal(double, [2.0, 4.0])
    np.testing.assert_array_equal(more, [2.0, 3.0])
