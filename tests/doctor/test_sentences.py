"""The known numbers: they are the NumPy ELMo's, and what differs from them is a problem."""

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import reference as numpy_elmo
from layers.harness import assert_close

from bridge import Checkpoint, ElmoConfig
from bridge.doctor.files import as_arguments
from bridge.doctor.findings import Check, Finding
from bridge.doctor.sentences import (
    REFERENCE_FILE,
    TOLERANCE,
    check_demo_sentences,
    check_own_sentences,
    compared,
    read_reference,
)

PATHS = (
    "ElmoEncoder with the fused engine",
    "ElmoEncoder with the allennlp engine",
    "ElmoEmbedding, eager",
    "ElmoEmbedding, in a graph",
    "a Keras model's predict",
)


def findings_of(check: Check, *arguments: object) -> list[Finding]:
    return [item for item in check(*arguments) if isinstance(item, Finding)]


def test_the_reference_is_the_numpy_elmo_on_the_demo_model() -> None:
    reference, demo = read_reference(), Checkpoint.open("demo")
    assert reference.fingerprint == demo.fingerprint
    options, weights = numpy_elmo.read_checkpoint(demo.options_file, demo.weight_file)
    ids = numpy_elmo.character_ids(reference.sentences)
    activations, _ = numpy_elmo.remove_boundaries(*numpy_elmo.bilm(options, weights, ids)[:2])
    assert len(reference.layers) == 3
    for row, sentence, layers in zip(activations, reference.sentences, reference.layers, strict=True):
        assert layers.shape == (len(sentence), 3, 128)
        assert_close(layers, row[: len(sentence)], 1e-6)


def test_the_reference_is_package_data_and_small() -> None:
    setup = (Path(__file__).parents[2] / "setup.cfg").read_text(encoding="utf-8")
    assert "demo/reference.json" in setup
    assert REFERENCE_FILE.stat().st_size < 50_000


def test_the_whole_bridge_on_the_demo_model() -> None:
    findings = findings_of(check_demo_sentences)
    assert [finding.status for finding in findings] == ["ok"] * len(PATHS)
    for path, finding in zip(PATHS, findings, strict=True):
        assert finding.found.startswith(f"{path}: 3 sentences")


def test_other_weights_give_other_numbers(tmp_path: Path) -> None:
    """Of one LSTM, one number: every way through the bridge notices."""
    demo = ElmoConfig.load("demo")
    config = ElmoConfig(*(str(shutil.copy(file, tmp_path)) for file in (demo.options_file, demo.weight_file)))
    with h5py.File(config.weight_file, "r+") as file:
        file["RNN_1/RNN/MultiRNNCell/Cell1/LSTMCell/B"][0] += 0.1
    files, *findings = findings_of(check_demo_sentences, as_arguments(config))
    assert "not those that came with this package" in files.found
    assert {finding.status for finding in [files, *findings]} == {"problem"}
    assert [finding.found.partition(":")[0] for finding in findings] == list(PATHS)


@pytest.mark.parametrize(
    ("received", "status"),
    [
        (np.full((2, 3), 1.0 + TOLERANCE / 2), "ok"),
        (np.full((2, 3), 1.0 + TOLERANCE * 2), "problem"),
        (np.array([[1, 1, 1], [1, np.nan, 1]]), "problem"),
        (np.ones((3, 2)), "problem"),
    ],
)
def test_compared(received: np.ndarray, status: str) -> None:
    assert compared("here", [received], [np.ones((2, 3))]).status == status


def test_own_weights(small: ElmoConfig) -> None:
    (finding,) = findings_of(check_own_sentences, as_arguments(small), False)
    assert (finding.check, finding.status) == ("your weights", "ok")
    assert finding.found.startswith("The fused engine and AllenNLP's differ by")


def test_own_weights_whose_fused_vectors_differ(small: ElmoConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """As they would on a processor whose products are wrong."""
    from bridge.encoder.linear import Linear

    products = Linear.__call__
    monkeypatch.setattr(Linear, "__call__", lambda self, *args, **kwargs: products(self, *args, **kwargs) * 1.01)
    (finding,) = findings_of(check_own_sentences, as_arguments(small), False)
    assert finding.status == "problem"
    assert finding.remedy is not None
    assert "doctor --json" in finding.remedy


def test_the_reference_holds_json_numbers_only() -> None:
    content = json.loads(REFERENCE_FILE.read_text(encoding="utf-8"))
    assert sorted(content) == ["fingerprint", "layers", "sentences"]
