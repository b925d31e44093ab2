"""The traps of threads, processes, Ctrl-C and long runs: entries of docs/troubleshooting.md."""

from __future__ import annotations

import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from layers.harness import assert_close, tokens
from layers.tuning import gradients, tiny_model, tunable
from load.programs import run

from bridge import ElmoConfig, ElmoEmbedding, ElmoEncoder, batch_to_ids
from bridge.errors import InputValueError, UnsupportedError

SENTENCES = [["The", "cat", "sat"], ["Hello", "you", "."]]

FORK = """
import multiprocessing
model = make_model()
model.predict(tokens(), verbose=0)

def worker(_):
    signal.alarm(60)
    return model.predict(tokens(), verbose=0).shape

try:
    with multiprocessing.get_context("fork").Pool(1) as pool:
        pool.map(worker, [0])
except BridgeError as error:
    print(type(error).__name__, error)
"""


@pytest.mark.slow
def test_a_forked_worker_hangs(tmp_path: Path) -> None:
    printed = run(FORK, tmp_path)
    assert printed.startswith("ProcessError A `tf.function`, and so Keras's `fit`, `evaluate` and `predict`")
    assert "forked after TensorFlow ran" in printed
    assert "'spawn'" in printed


LOADER = """
from torch.utils.data import DataLoader
encoder = ElmoEncoder(config)

class Embedded(torch.utils.data.Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        return encoder.embed([["word"] * (index + 1)])[0].sum()

try:
    list(DataLoader(Embedded(), num_workers=1))
except BridgeError as error:
    print(type(error).__name__, str(error).splitlines()[-1])
"""


@pytest.mark.slow
def test_a_data_loader_worker_hangs(tmp_path: Path) -> None:
    printed = run(LOADER, tmp_path)
    assert printed.startswith("ProcessError ")
    assert "An ElmoEncoder must be used in the process that made it" in printed


def test_an_encoder_cannot_be_pickled(small: ElmoConfig) -> None:
    with pytest.raises(UnsupportedError, match="An ElmoEncoder must not be copied, pickled or sent"):
        pickle.dumps(ElmoEncoder(small))
    layer = ElmoEmbedding(small)
    assert_close(pickle.loads(pickle.dumps(layer))(tokens(SENTENCES)), layer(tokens(SENTENCES)), 1e-6)


def test_wrong_gradients_from_two_threads(tmp_path: Path) -> None:
    layer = tunable(tiny_model(tmp_path), dtype="float64")
    ids = [tf.constant(batch_to_ids([[f"w{number}"] * (number + 1)])) for number in range(2)]
    wanted = [gradients(layer, batch) for batch in ids]
    begin = threading.Barrier(2)

    def work(index: int) -> list[Any]:
        begin.wait(60)
        return [gradients(layer, ids[index]) for _ in range(3)]

    with ThreadPoolExecutor(2) as threads:
        for results, expected in zip(threads.map(work, range(2)), wanted, strict=True):
            for received in results:
                for one, other in zip(received, expected, strict=True):
                    assert_close(one, other, 1e-10)


def test_an_error_inside_the_layer_comes_as_an_error_of_tensorflow(small: ElmoConfig) -> None:
    layer = ElmoEmbedding(small, pooling="mean")
    model = keras.Sequential([keras.Input((None, 50), dtype="int32"), layer])
    wrong = np.full((1, 2, 50), 999, "int32")
    with pytest.raises(InputValueError, match="261"):
        layer(wrong)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"InputValueError: .*261"):
        model.predict(wrong, verbose=0)
    ids = batch_to_ids(SENTENCES)
    assert_close(model.predict(ids, verbose=0), layer(ids))


def test_out_of_memory_in_the_midst_of_a_run(small: ElmoConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = ElmoEmbedding(small, pooling="mean", state="carry")
    other = ElmoEmbedding(small, pooling="mean", state="carry")
    model = keras.Sequential([keras.Input((None, 50), dtype="int32"), layer])
    ids = batch_to_ids(SENTENCES)
    assert_close(model.predict_on_batch(ids), other(ids))
    text = "CUDA out of memory. Tried to allocate 2.00 GiB"

    def fail(*arguments: Any, **more: Any) -> None:
        raise RuntimeError(text)

    with monkeypatch.context() as patch:
        patch.setattr(layer.encoder.module._elmo_lstm, "encode", fail)
        with pytest.raises(tf.errors.UnknownError, match=text):
            model.predict_on_batch(ids)
    assert_close(model.predict_on_batch(ids), other(ids))


INTERRUPTED = """
import threading
model = make_model()
data = tf.data.Dataset.from_tensors((tokens(), LABELS)).repeat()
model.fit(data, steps_per_epoch=1, verbose=0)
threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    model.fit(data, steps_per_epoch=10**6, verbose=0)
except (KeyboardInterrupt, SystemError):  # TensorFlow may make the second of it
    print("interrupted", model.predict(tokens(), verbose=0).shape)
"""


@pytest.mark.slow
def test_control_c_in_a_training(tmp_path: Path) -> None:
    assert run(INTERRUPTED, tmp_path) == "interrupted (2, 1)\n"


EAGER = """
layer, ids = ElmoEmbedding(config, output_mode="all"), batch_to_ids([["a", "word"]] * 256)

def mebibytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

for number in range(1100):
    layer(ids)  # 72 KiB
    if number == 100:
        before = mebibytes()
print(mebibytes() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's /proc")
def test_memory_grows_call_by_call(tmp_path: Path) -> None:
    assert float(run(EAGER, tmp_path)) < 20  # 70, if every output stayed


ABANDONED = """
layer = ElmoEmbedding(config)
data = tf.data.Dataset.from_tensors(tokens()).repeat().map(layer, num_parallel_calls=2).prefetch(50)
for vectors in data:
    break
print("ends")
"""


@pytest.mark.slow
def test_the_process_does_not_end(tmp_path: Path) -> None:
    assert run(ABANDONED, tmp_path) == "ends\n"
