"""What only a process of its own can show: another Keras backend, and a saved model without its maker."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import pytest
from layers.harness import SENTENCES, assert_close, tokens

from bridge import ElmoConfig, ElmoEmbedding

OTHER_BACKEND = """
import bridge
for name in ("ElmoEmbedding", "CharacterIds"):
    try:
        getattr(bridge, name)
    except ImportError as error:
        print(type(error).__name__, error)
"""

LOAD_AND_PREDICT = """
import sys
import keras, numpy, tensorflow
from bridge import ElmoEmbedding  # makes the layer known to Keras
tokens = tensorflow.constant([["The", "cat", "sat"], ["Hello", "", ""]])
numpy.save(sys.argv[2], keras.models.load_model(sys.argv[1])(tokens))
"""


class Processes(NamedTuple):
    """Both started at once: each spends its time on imports."""

    model: keras.Model
    prediction: Path
    loading: subprocess.Popen[str]
    other_backend: subprocess.Popen[str]


def start(code: str, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def processes(small: ElmoConfig, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    folder = Path(tmp_path_factory.mktemp("fresh"))
    inputs = keras.Input((None,), dtype="string")
    pooled = keras.layers.GlobalAveragePooling1D()(ElmoEmbedding(small)(inputs))
    model = keras.Model(inputs, keras.layers.Dense(2)(pooled))
    model.layers[1].scalar_mix.gamma.assign(1.5)  # as if trained
    model.save(folder / "model.keras")
    with (
        start(LOAD_AND_PREDICT, str(folder / "model.keras"), str(folder / "predicted.npy")) as loading,
        start(OTHER_BACKEND, KERAS_BACKEND="torch") as other_backend,
    ):
        yield Processes(model, folder / "predicted.npy", loading, other_backend)


@pytest.mark.slow
def test_a_loaded_model_predicts_the_same(processes: Processes) -> None:
    _, errors = processes.loading.communicate()
    assert processes.loading.returncode == 0, errors
    assert_close(np.load(processes.prediction), processes.model(tokens(SENTENCES)), 1e-6)


@pytest.mark.slow
def test_another_keras_backend_is_refused(processes: Processes) -> None:
    """By the layers that need TensorFlow, with the way out; ScalarMix runs on any backend."""
    output, errors = processes.other_backend.communicate()
    messages = output.splitlines()
    assert len(messages) == 2, errors
    for message in messages:
        assert message.startswith("MissingDependencyError The layers need Keras 3 on its TensorFlow backend")
        assert "'torch' backend. Set KERAS_BACKEND=tensorflow" in message
