"""The environment's entries of docs/troubleshooting.md: real processes, with packages hidden, old or in any order."""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest

import bridge

HIDE = """
import importlib.abc, sys
class Hidden(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {hidden!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Hidden())
"""


def last_line(code: str, **environment: str) -> str:
    """The last line that a fresh process prints: of its error, if it ends with one."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=False,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **environment},
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert done.returncode in (0, 1), f"the process died: {done.returncode}\n{done.stderr[-500:]}"
    return (done.stderr if done.returncode else done.stdout).strip().splitlines()[-1]


def without(*packages: str) -> str:
    return HIDE.format(hidden=packages)


def test_allennlp_is_not_installed() -> None:
    assert last_line(without("allennlp") + 'import bridge; bridge.ElmoEncoder("demo")') == (
        "bridge.errors.MissingDependencyError: AllenNLP's ELMo is needed, and allennlp is not installed. "
        "Run: pip install --no-deps allennlp==2.10.1"
    )


@pytest.mark.parametrize(
    ("package", "use"),
    [
        ("tensorflow", "bridge.ElmoEmbedding"),
        ("tensorflow", "bridge.ScalarMix"),
        ("keras", "bridge.to_tensor"),
        ("torch", "bridge.ElmoEncoder"),
        ("torch", "bridge.embed_corpus"),
    ],
)
def test_tensorflow_keras_or_pytorch_is_not_installed(package: str, use: str) -> None:
    line = last_line(without(package) + f"import bridge; {use}")
    assert line.startswith(f"bridge.errors.MissingDependencyError: {package} ")
    assert "or newer is needed here, and it is not installed. Run: pip install" in line


def test_what_needs_neither_framework_works_without() -> None:
    code = """
import bridge
ids = bridge.batch_to_ids([["a", "word"]])
print(ids.shape, bridge.Checkpoint.open("demo").num_layers, bridge.FeatureStore.__name__)
"""
    assert last_line(without("tensorflow", "keras", "torch", "allennlp") + code) == "(1, 2, 50) 3 FeatureStore"


def fake_package(folder: Path, name: str, version: str) -> None:
    """A package of that version, which must not be imported."""
    (folder / name).mkdir()
    (folder / name / "__init__.py").write_text('raise AssertionError("imported before it was looked at")')
    (folder / f"{name}-{version}.dist-info").mkdir()
    (folder / f"{name}-{version}.dist-info" / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    )


@pytest.mark.parametrize(
    ("package", "version", "use"),
    [
        ("keras", "2.15.0", "ElmoEmbedding"),
        ("tensorflow", "2.15.1", "ElmoEmbedding"),
        ("torch", "1.12.1", "ElmoEncoder"),
        ("numpy", "1.21.6", "ElmoEncoder"),
    ],
)
def test_keras_2_and_other_versions_that_are_too_old(package: str, version: str, use: str, tmp_path: Path) -> None:
    fake_package(tmp_path, package, version)
    line = last_line(f"import bridge; bridge.{use}", PYTHONPATH=str(tmp_path))
    assert line.startswith(f"bridge.errors.MissingDependencyError: {package} ")
    assert f'or newer is needed here, and version {version} is installed. Run: pip install "{package}>=' in line


@pytest.mark.parametrize("backend", ["torch", "jax", "numpy"])
def test_a_keras_backend_that_is_not_tensorflow(backend: str, tmp_path: Path) -> None:
    line = last_line("import bridge; bridge.ElmoEmbedding", KERAS_BACKEND=backend)
    assert f"Received: the {backend!r} backend. Set KERAS_BACKEND=tensorflow before Keras is imported" in line


ORDERS = list(itertools.permutations(["import bridge", "import torch", "import tensorflow"]))
USE = """
vectors = bridge.ElmoEncoder("demo").embed([["a", "word"]])[0]
assert vectors.shape == (2, 3, 128)
layer = bridge.ElmoEmbedding("demo", requires_grad=True, output_mode="top", dropout=0)
model = keras.Sequential([keras.Input((None,), dtype="string"), layer, keras.layers.GlobalAveragePooling1D()])
model.compile("adam", "mse")
model.fit(bridge.to_tensor([["a", "word"]]), numpy.zeros((1, 128)), verbose=0)
model.predict(bridge.to_tensor([["a", "word"]]), verbose=0)
assert "triton" not in sys.modules  # after TensorFlow, its CUDA build kills the process
print("works")
"""


@pytest.mark.slow
@pytest.mark.parametrize("order", ORDERS, ids=" then ".join)
def test_tensorflow_and_pytorch_in_one_process(order: tuple[str, ...]) -> None:
    code = "\n".join([*order, "import sys, keras, numpy", USE])
    assert last_line(code) == "works"


def test_tensorflow_takes_all_memory_of_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """No GPU is at hand: here TensorFlow says that it sees three, one of them limited and one decided about."""
    import tensorflow as tf

    grows = {"gpu:2": False}  # the user's own decision
    monkeypatch.delenv("TF_FORCE_GPU_ALLOW_GROWTH", raising=False)
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["gpu:0", "gpu:1", "gpu:2"])
    monkeypatch.setattr(tf.config.experimental, "get_memory_growth", grows.get)
    monkeypatch.setattr(
        tf.config, "get_logical_device_configuration", lambda gpu: ["limit"] if gpu == "gpu:1" else None
    )
    monkeypatch.setattr(tf.config.experimental, "set_memory_growth", grows.__setitem__)
    bridge.ElmoEmbedding("demo", device="cpu")
    assert grows == {"gpu:2": False}
    with contextlib.suppress(bridge.BridgeError):  # of PyTorch, which knows better
        bridge.ElmoEmbedding("demo", device="cuda")
    assert grows == {"gpu:0": True, "gpu:2": False}
