"""What every test shares: a clean environment, quiet TensorFlow, and small random models."""

import contextlib
import importlib
import os

# Before TensorFlow and PyTorch are imported: the first would greet every run.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Models this small run faster on one thread, and many times faster while other processes are busy.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# PyTorch's CUDA build: some of its parts import triton, which kills a process that has TensorFlow.
with contextlib.suppress(ImportError):
    importlib.import_module("triton")

from pathlib import Path

import hypothesis
import pytest
from models import random_model

from bridge.resources.config import ElmoConfig

# Timings differ between machines: a slow example is no failure.
hypothesis.settings.register_profile("bridge", deadline=None, max_examples=25)
hypothesis.settings.load_profile("bridge")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the user's own ELMo settings."""
    for name in list(os.environ):
        if name.startswith("ELMO_"):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> ElmoConfig:
    """A small random model: 2 LSTM layers, output_dim 12."""
    return random_model(Path(tmp_path_factory.mktemp("small")))
