"""Programs in a Python of their own: they fork, they are interrupted, and they may hang."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import bridge

ROOT = Path(bridge.__file__).parents[1]
# What every program begins with: quiet, heeding Ctrl-C even where the tests run in the background, and with a small
# model that trains on two sentences.
BEGIN = """
import os, signal, sys, time, warnings
signal.signal(signal.SIGINT, signal.default_int_handler)
warnings.simplefilter("ignore")  # newer Pythons warn of a fork with threads
from pathlib import Path
import keras
import numpy as np
import tensorflow as tf
import torch
from bridge import BridgeError, ElmoConfig, ElmoEmbedding, ElmoEncoder, batch_to_ids
from models import random_model

def make_config():
    folder = Path("model")
    if not folder.exists():
        random_model(folder)
    return ElmoConfig(str(folder / "options.json"), str(folder / "weights.hdf5"))

config = make_config()
SENTENCES = [["The", "cat", "sat"], ["Hello", "you", "."]]
IDS, LABELS = batch_to_ids(SENTENCES), np.array([[0.0], [1.0]], "float32")

def tokens():
    return tf.constant(SENTENCES)  # not before it is needed: it is TensorFlow's first operation

def make_model(**options):
    layers = [keras.Input((None,), dtype="string"), ElmoEmbedding(config, pooling="mean", **options)]
    model = keras.Sequential([*layers, keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    return model
"""


def start(program: str, folder: Path, *arguments: str, begin: str = BEGIN) -> subprocess.Popen[str]:
    """Starts a program as `program.py` in a folder; spawned children import it again."""
    file = folder / "program.py"
    file.write_text(begin + program)
    path = os.pathsep.join(map(str, (ROOT, ROOT / "tests")))
    return subprocess.Popen(
        [sys.executable, str(file), *arguments],
        env={**os.environ, "PYTHONPATH": path, "OMP_WAIT_POLICY": "PASSIVE"},
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(program: str, folder: Path, *arguments: str, timeout: float = 150, code: int = 0) -> str:
    """Runs a program to its end, and returns what it printed."""
    with start(program, folder, *arguments) as process:
        try:
            output, errors = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            output, errors = process.communicate()
            raise AssertionError(f"it hangs\n{output}\n{errors}") from None
    assert process.returncode == code, f"{output}\n{errors}"
    return output


def results(output: str) -> Any:
    """What a program printed last, as JSON."""
    return json.loads(output.splitlines()[-1])
