"""Frameworks that are broken, of another kind, or deadly in some order: fake packages in real processes."""

import sys
from pathlib import Path

import pytest
from doctor.fakes import package

from bridge.doctor.findings import Finding
from bridge.doctor.frameworks import check_frameworks
from bridge.doctor.import_orders import EVERY_ORDER, USUAL_ORDERS, try_order, try_triton
from bridge.doctor.processes import in_fresh_process

KERAS = "__version__ = {version!r}\nclass backend:\n    backend = staticmethod(lambda: {backend!r})\n"
# As the CUDA build behaves: triton's LLVM aborts when TensorFlow's is there.
TRITON = "import os, sys\nif 'tensorflow' in sys.modules:\n    print('LLVM ERROR', file=sys.stderr)\n    os.abort()\n"
TENSORFLOW = "constant = lambda values: 1.0\n"


def frameworks(folder: Path, monkeypatch: pytest.MonkeyPatch, *names: str) -> list[Finding]:
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    return in_fresh_process("frameworks", check_frameworks, names, False, timeout=60)


def test_keras_2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package(tmp_path, "keras", KERAS.format(version="2.15.0", backend="tensorflow"))
    (finding,) = frameworks(tmp_path, monkeypatch, "keras")
    assert finding.status == "problem"
    assert finding.found == "`import keras` gives Keras 2.15.0: the bridge's layers are of Keras 3."
    assert finding.command == 'pip install "keras>=3.5,<=3.15.1"'


def test_keras_on_another_backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package(tmp_path, "keras", KERAS.format(version="3.15.1", backend="torch"))
    (finding,) = frameworks(tmp_path, monkeypatch, "keras")
    assert finding.status == "problem"
    assert "runs on its 'torch' backend" in finding.found
    assert finding.command == "export KERAS_BACKEND=tensorflow"


def test_broken_packages_do_not_hide_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package(tmp_path, "torch", "raise OSError('libtorch_cpu.so: cannot open shared object file')")
    package(tmp_path, "tensorflow", "raise AttributeError('_ARRAY_API not found')")
    package(tmp_path, "keras", KERAS.format(version="3.15.1", backend="tensorflow"))
    torch, tensorflow, keras = frameworks(tmp_path, monkeypatch, "torch", "tensorflow", "keras", "allennlp")
    assert torch.found == "`import torch` fails with OSError: libtorch_cpu.so: cannot open shared object file"
    assert torch.command == 'pip install "torch>=2.2,<=2.13.0" --force-reinstall'
    assert (tensorflow.check, tensorflow.status) == ("tensorflow", "problem")
    assert keras.status == "ok"


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_an_order_that_kills(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package(tmp_path, "torch", TRITON)
    package(tmp_path, "tensorflow", TENSORFLOW)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    (finding,) = try_order(("tensorflow", "torch"))
    assert (finding.check, finding.status) == ("import order tensorflow, torch", "problem")
    assert finding.found == "Its process was killed by SIGABRT at 'import torch'; its last words: \"LLVM ERROR\"."
    (finding,) = try_order(("torch", "tensorflow"))
    assert (finding.status, finding.found) == ("ok", "torch, tensorflow: works.")


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_triton_after_tensorflow_is_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bridge does not need it; programs of the user's may."""
    package(tmp_path, "triton", TRITON)
    package(tmp_path, "tensorflow", TENSORFLOW)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    (finding,) = try_triton()
    assert finding.status == "note"
    assert finding.remedy is not None
    assert "`import triton` before `import tensorflow`" in finding.remedy
    package(tmp_path, "triton", "")
    assert [finding.status for finding in try_triton()] == ["ok"]


def test_orders() -> None:
    assert len(set(EVERY_ORDER)) == 6
    assert set(USUAL_ORDERS) < set(EVERY_ORDER)
    first, second = ([order.index(name) for name in ("torch", "tensorflow")] for order in USUAL_ORDERS)
    assert (first[0] < first[1]) != (second[0] < second[1])
