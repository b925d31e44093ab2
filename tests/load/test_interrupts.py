"""Ctrl-C, as real signals to real processes: a clean end, nothing torn, and everything works afterwards."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from commands import press_control_c, start_command
from load.programs import results, run, start

# Presses Ctrl-C again and again while something runs, at other moments each time.
PRESSING = """
import json, random, threading

def interrupts(work, times, longest=0.6, seed=0):
    '''How often `work` was interrupted; what else comes out of it goes on.'''
    draw, count = random.Random(seed), 0
    for _ in range(times):
        timer = threading.Timer(draw.uniform(0.02, longest), os.kill, (os.getpid(), signal.SIGINT))
        again = threading.Timer(20, os.kill, (os.getpid(), signal.SIGINT))  # Python drops what falls in a destructor
        try:
            timer.start()
            again.start()
            work()
            timer.join()
            time.sleep(0.1)
        except KeyboardInterrupt:
            count += 1
        except BridgeError:
            raise
        except (SystemError, ValueError):  # TensorFlow's C++ may make these of an interrupt that falls into it
            count += 1
        timer.join()
        again.cancel()
    return count
"""

IN_KERAS = """
requires_grad = sys.argv[1] == "trained"
model = make_model(dropout=0.0, requires_grad=requires_grad)
model.compile(keras.optimizers.SGD(0.0), "mse")
layer, x = model.layers[0], tokens()
data = tf.data.Dataset.from_tensors((x, LABELS)).repeat()
mapped = tf.data.Dataset.from_tensors(x).repeat().map(layer, num_parallel_calls=4).prefetch(4)
wanted = model.predict(x, verbose=0)
model.fit(data, steps_per_epoch=2, verbose=0)

def forever(use):
    while True:
        use()

def gradients():
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(x, training=True))
    tape.gradient(loss, [weight.value for weight in layer.trainable_weights])

USES = {
    "fit": lambda: model.fit(data, steps_per_epoch=10**6, verbose=0),
    "predict": lambda: model.predict(data, steps=10**6, verbose=0),
    "eager": lambda: forever(lambda: layer(x)),
    "gradients": lambda: forever(gradients),
    "a data set": lambda: [0 for _ in mapped],
}
counts = {}
for name, use in USES.items():
    counts[name] = interrupts(use, 4, 0.4)
    np.testing.assert_allclose(model.predict(x, verbose=0), wanted, atol=1e-5)
    np.testing.assert_allclose(model(x), wanted, atol=1e-5)
if requires_grad:
    import gc
    gc.collect()
    assert not layer.bilm._trained._backward.__self__._graphs
print(json.dumps(counts))
"""


@pytest.mark.slow
@pytest.mark.parametrize("weights", ["frozen", "trained"])
def test_keras_is_interrupted_and_goes_on(weights: str, tmp_path: Path) -> None:
    counts = results(run(PRESSING + IN_KERAS, tmp_path, weights))
    assert counts == dict.fromkeys(("fit", "predict", "eager", "gradients", "a data set"), 4)


ENDED = """
model = make_model(requires_grad=True)
data = tf.data.Dataset.from_tensors((tokens(), LABELS)).repeat()
data = data.map(lambda x, y: (x, y), num_parallel_calls=2).prefetch(10)
class Tell(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if batch == 3:
            print("trains", flush=True)
model.fit(data, steps_per_epoch=10**6, verbose=0, callbacks=[Tell()])
"""


@pytest.mark.slow
def test_a_program_that_fits_ends_at_control_c(tmp_path: Path) -> None:
    with start(ENDED, tmp_path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "trains\n"
        time.sleep(0.5)
        _, errors = press_control_c(process)
    assert process.returncode in (-signal.SIGINT, 1)  # as Python ends, where nobody catches it
    last = errors.splitlines()[-1]
    assert last == "KeyboardInterrupt" or "bad argument to internal function" in last  # TensorFlow's
    assert "tensorflow.python.framework.errors_impl" not in errors


EMBEDDED = """
from bridge import embed_corpus
from bridge.errors import OutputError, ProcessError

with open("corpus.txt", "w") as file:
    file.writelines(f"the cat {number} sat on {number % 97}\\n" for number in range(12_000))
arguments = {"layers": "top", "layout": "packed", "max_tokens": 1024}
began = time.monotonic()
embed_corpus("corpus.txt", "whole.hdf5", config, **arguments)
seconds = time.monotonic() - began
torn, count = 0, 0
for seed in range(40):
    count += interrupts(
        lambda: embed_corpus("corpus.txt", "out.hdf5", config, resume=True, **arguments), 1, 0.7 * seconds, seed
    )
    if Path("out.hdf5").exists():
        break
embed_corpus("corpus.txt", "out.hdf5", config, resume=True, **arguments)  # finished, or to be finished
print(json.dumps([count, sorted(path.name for path in Path().glob("out*"))]))
"""


@pytest.mark.slow
def test_embed_corpus_is_interrupted_and_resumed(tmp_path: Path) -> None:
    """In one process: an interrupted run leaves no lock behind, and no file under the output's name."""
    count, left = results(run(PRESSING + EMBEDDED, tmp_path))
    assert count > 2
    assert left == ["out.hdf5"]
    with h5py.File(tmp_path / "whole.hdf5") as whole, h5py.File(tmp_path / "out.hdf5") as out:
        assert whole.keys() == out.keys()
        for name in whole:
            if whole[name].dtype.kind == "f":
                np.testing.assert_allclose(out[name][:], whole[name][:], atol=1e-5)
            else:
                np.testing.assert_array_equal(out[name][:], whole[name][:])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["train", "embed"])
def test_a_command_is_interrupted_at_any_moment_and_resumed(name: str, tmp_path: Path) -> None:
    from models import random_model

    (tmp_path / "model").mkdir()
    config = random_model(tmp_path / "model")
    (tmp_path / "model.ini").write_text(
        f"[ELMO]\noptions_file = {config.options_file}\nweight_file = {config.weight_file}\n"
    )
    if name == "train":
        (tmp_path / "in.tsv").write_text(
            "sentence\tlabel\n"
            + "".join(f"{'good' if row % 2 else 'bad'} film {row}\t{row % 2}\n" for row in range(60))
        )
        options = ["train", "in.tsv", "run", "--units", "4", "--epochs", "12", "--patience", "12"]
        made = tmp_path / "run" / "state.npz"
    else:
        (tmp_path / "in.txt").write_text("".join(f"the cat sat on {row}\n" for row in range(150_000)))
        options = ["embed", "--top", "--layout", "packed", "in.txt", "out.hdf5"]
        made = tmp_path / "out.hdf5.partial"
    options += ["--config", "model.ini", "--resume"]
    draw = random.Random(name)
    for attempt in range(3):
        with start_command(*options, cwd=tmp_path) as process:
            if attempt != 1:  # while it imports, or a little later
                time.sleep(draw.uniform(1.5, 3))
            while attempt == 1 and not made.exists() and process.poll() is None:
                time.sleep(0.05)
            time.sleep(draw.uniform(0, 1))
            _, errors = press_control_c(process, again=8)
        assert process.returncode == 130, errors
        assert "Traceback" not in errors
        assert "Error" not in errors
        assert not (tmp_path / "out.hdf5").exists()
        if attempt == 1:  # the others may be importing
            assert "interrupted; the same command with --resume continues" in errors
    with start_command(*options, cwd=tmp_path) as process:
        _, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    if name == "embed":
        with h5py.File(tmp_path / "out.hdf5") as file:
            assert file["offsets"].shape == (150_001,)
            assert file["offsets"][-1] == 750_000
    else:
        assert len((tmp_path / "run" / "history.csv").read_text().splitlines()) == 13


PRESSED = """
import sys

class Press:  # Ctrl-C in the middle of NumPy
    pressed = False

    def find_spec(self, name, path=None, target=None):
        if name == "numpy.matrixlib" and not self.pressed:
            self.pressed = True
            raise KeyboardInterrupt

sys.meta_path.insert(0, Press())
"""


@pytest.mark.parametrize(
    "names",
    [
        "bridge:ElmoEncoder",
        "bridge:ElmoEmbedding",
        "bridge:embed_corpus",
        "bridge:embed_column",
        "bridge.corpus.ray_runner:embed_corpus_on_ray",
        "bridge.heads:train",
        "bridge.pretrain:train_bilm",
    ],
)
def test_no_import_swallows_control_c(names: str, tmp_path: Path) -> None:
    module, _, name = names.partition(":")
    with start(f"from {module} import {name}", tmp_path, begin=PRESSED) as process:
        _, errors = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGINT, errors
    assert errors.endswith("KeyboardInterrupt\n")
