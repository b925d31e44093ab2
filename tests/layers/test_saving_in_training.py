"""What Keras saves while a model trains: the best epoch, and where to go on after an interruption."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from layers.harness import SENTENCES, assert_close, tokens
from models import random_model

from bridge import ElmoConfig, ElmoEmbedding

TOKENS = tokens(SENTENCES)
LABELS = np.array([[1.0], [-1.0]])
EPOCHS = 5

KINDS: dict[str, dict[str, Any]] = {
    "frozen": {"num_output_representations": 1},
    "embedded, warm": {"embed_weights": True, "state": "warm"},
    "fine-tuned": {"requires_grad": True},
}


def regressor(config: ElmoConfig, **arguments: Any) -> keras.Model:
    layer = ElmoEmbedding(config, dropout=0.0, pooling="mean", **arguments)
    inputs = keras.Input((None,), dtype="string")
    model = keras.Model(inputs, keras.layers.Dense(1, kernel_initializer="ones")(layer(inputs)))
    model.compile(keras.optimizers.Adam(0.02), keras.losses.MeanSquaredError())
    return model


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_model_checkpoint_keeps_the_best_epoch(kind: str, tmp_path: Path) -> None:
    model = regressor(random_model(tmp_path), **KINDS[kind])
    at_best: list[np.ndarray] = []

    class RecordPredictions(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            at_best.append(self.model.predict(TOKENS, verbose=0))

    scores = iter([3.0, 1.0, 2.0])

    class Score(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            logs["score"] = next(scores)

    path = tmp_path / "best.keras"
    best = keras.callbacks.ModelCheckpoint(path, monitor="score", mode="min", save_best_only=True)
    model.fit(TOKENS, LABELS, epochs=3, verbose=0, callbacks=[RecordPredictions(), Score(), best])
    assert_close(keras.models.load_model(path)(TOKENS), at_best[1], 1e-6)
    assert np.abs(at_best[1] - at_best[2]).max() > 1e-4


PROGRAM = """
import os, signal, sys
import keras
from bridge import ElmoConfig
from layers.test_saving_in_training import EPOCHS, KINDS, LABELS, TOKENS, regressor

class Kill(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 3:
            os.kill(os.getpid(), signal.SIGKILL)

kind, options_file, weight_file, folder = sys.argv[1:]
model = regressor(ElmoConfig(options_file, weight_file), **KINDS[kind])
model.fit(TOKENS, LABELS, epochs=EPOCHS, verbose=0,
          callbacks=[keras.callbacks.BackupAndRestore(folder), Kill()])
"""


@pytest.mark.slow
def test_backup_and_restore_after_a_kill(tmp_path: Path) -> None:
    """Goes on from the epoch at which the process died, to the weights of an undisturbed training."""
    config, folder = random_model(tmp_path), tmp_path / "backup"
    kind = KINDS["fine-tuned"]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "fine-tuned", config.options_file, config.weight_file, str(folder)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, Path(__file__).parents[1:3]))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    undisturbed, resumed = regressor(config, **kind), regressor(config, **kind)
    undisturbed.fit(TOKENS, LABELS, epochs=EPOCHS, verbose=0)
    history = resumed.fit(
        TOKENS, LABELS, epochs=EPOCHS, verbose=0, callbacks=[keras.callbacks.BackupAndRestore(str(folder))]
    )
    assert history.epoch == [3, 4]
    for received, wanted in zip(resumed.weights, undisturbed.weights, strict=True):
        assert_close(received, wanted, 1e-5)


def test_a_tensorflow_checkpoint_of_fine_tuned_weights(small: ElmoConfig, tmp_path: Path) -> None:
    model = regressor(small, requires_grad=True)
    path = tf.train.Checkpoint(model=model).save(tmp_path / "checkpoint")
    wanted = model(TOKENS)
    for weight in model.weights:
        weight.assign(weight * 0.5)
    tf.train.Checkpoint(model=model).restore(path)
    np.testing.assert_array_equal(model(TOKENS), wanted)
