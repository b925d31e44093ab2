"""FeatureMetadata: what a file says of itself, and whether that fits a model."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from features.samples import metadata_of
from models import random_model

from bridge import Checkpoint, ElmoEncoder, __version__
from bridge.errors import FeatureStoreError
from bridge.features.metadata import FeatureMetadata
from bridge.resources.config import ElmoConfig


def test_of_an_encoder(small: ElmoConfig) -> None:
    encoder = ElmoEncoder(small, state="warm")
    metadata = FeatureMetadata.of(encoder, layers="top", dtype="float16", run="r1", skipped_lines=2)
    assert metadata.fingerprint == Checkpoint.open(small).fingerprint
    assert (metadata.state, metadata.precision, metadata.tokenization) == ("warm", "float32", "whitespace")
    assert (metadata.num_layers, metadata.output_dim, metadata.token_shape) == (3, 12, (12,))
    assert (metadata.run, metadata.skipped_lines, metadata.sentences) == ("r1", 2, 0)
    assert metadata.versions["elmo-keras-bridge"] == __version__
    assert metadata.versions["numpy"] == np.__version__
    assert set(metadata.versions) >= {"torch", "allennlp"}


@pytest.mark.parametrize(("layers", "shape"), [("all", (3, 4)), ("top", (4,)), ("average", (4,))])
def test_token_shape(layers: str, shape: tuple[int, ...]) -> None:
    assert metadata_of(layers=layers).token_shape == shape


def test_json_round_trip() -> None:
    metadata = metadata_of(tokens=5, versions={"torch": "2"})
    assert json.loads(metadata.to_json())["tokens"] == 5
    assert FeatureMetadata.from_json(metadata.to_json(), "it") == metadata
    assert metadata.with_counts(tokens=6) == metadata_of(tokens=6, versions={"torch": "2"})


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"format": 2}, "format"),
        ({"fingerprint": "abc"}, "fingerprint"),
        ({"state": "cold"}, "state"),
        ({"tokens": -1}, "tokens"),
        ({"num_layers": 0}, "num_layers"),
        ({"colour": "red"}, "colour"),
        ({"output_dim": None}, "output_dim"),
    ],
    ids=str,
)
def test_other_json(changes: dict[str, Any], word: str) -> None:
    text = json.dumps(json.loads(metadata_of().to_json()) | changes)
    with pytest.raises(FeatureStoreError, match=rf"must be .*Received: 'f\.hdf5', in which `{word}`.* make it again"):
        FeatureMetadata.from_json(text, "'f.hdf5'")


@pytest.mark.parametrize("text", ["", "{", "[]", "\x00", b"\xff"])
def test_no_json(text: str | bytes) -> None:
    with pytest.raises(FeatureStoreError, match=r"f\.hdf5"):
        FeatureMetadata.from_json(text, "f.hdf5")


def test_check_model(small: ElmoConfig, tmp_path: Path) -> None:
    checkpoint = Checkpoint.open(small)
    metadata = metadata_of(fingerprint=checkpoint.fingerprint)
    for model in (small, checkpoint, checkpoint.fingerprint):
        metadata.check_model(model, "f.hdf5")
    other = random_model(tmp_path, seed=1)
    for model in (other, Checkpoint.open(other), "demo", "f" * 64):
        with pytest.raises(FeatureStoreError, match=rf"f\.hdf5, made by .*{checkpoint.fingerprint}.*Give the config"):
            metadata.check_model(model, "f.hdf5")


def test_features_need_neither_torch_nor_tensorflow_nor_pyarrow() -> None:
    program = (
        "import sys, bridge.features.store, bridge.features.convert, bridge.cli.convert;"
        "print([name for name in ('torch', 'tensorflow', 'keras', 'pyarrow') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
