"""`.keras` files from strangers: nothing is run, downloaded or allocated because they say so."""

import itertools
import json
import socket
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras
import pytest
from models import random_model
from resources.hostile_weights import HOSTILE

from bridge import ElmoEmbedding
from bridge.errors import BridgeError, CheckpointError, ResourceNotFoundError
from bridge.layers.saved_weights import MAX_HOLLOW_BYTES

# cached_path's Google client says so while it is imported.
pytestmark = pytest.mark.filterwarnings("ignore:Please install grpcio-status:ImportWarning")

SEEDS = itertools.count(1000)
Change = Callable[[dict[str, Any]], object]


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A model with its weights inside, the original files of which are gone."""
    # Of weights that no other test has: the bridge finds what a model in memory took out of its file.
    model = random_model(tmp_path / "model", seed=next(SEEDS))
    inputs = keras.Input((None,), dtype="string")
    outputs = ElmoEmbedding(model, embed_weights=True, name="elmo")(inputs)
    keras.Model(inputs, outputs).save(tmp_path / "sound.keras")
    Path(model.weight_file).unlink()
    return tmp_path / "sound.keras"


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(*arguments: Any) -> None:
        raise AssertionError(f"a connection to {arguments}")

    monkeypatch.setattr(socket, "create_connection", connect)
    monkeypatch.setattr(socket, "getaddrinfo", connect)


def changed(saved: Path, change: Change | None = None, files: dict[str, bytes] | None = None) -> Path:
    """A copy with another config of the layer, or with other files in it."""
    target = saved.with_name("changed.keras")
    with zipfile.ZipFile(saved) as reader, zipfile.ZipFile(target, "w") as writer:
        for name in reader.namelist():
            content = (files or {}).get(name, reader.read(name))
            if name == "config.json" and change is not None:
                config = json.loads(content)
                (layer,) = (each for each in config["config"]["layers"] if each["class_name"] == "ElmoEmbedding")
                change(layer)
                content = json.dumps(config).encode()
            writer.writestr(name, content)
    return target


def weights_inside(saved: Path) -> str:
    with zipfile.ZipFile(saved) as reader:
        (name,) = (name for name in reader.namelist() if name.endswith("/weights.hdf5"))
    return name


def without_fingerprint(url: object) -> Change:
    def change(layer: dict[str, Any]) -> None:
        del layer["config"]["fingerprint"]
        layer["config"]["config"] = url

    return change


def test_the_sound_one_loads(saved: Path) -> None:
    assert keras.models.load_model(changed(saved)).output_shape == (None, None, 12)


URL = "http://127.0.0.1:1/elmo"
FILES = {"options_file": f"{URL}.json", "weight_file": f"{URL}.hdf5"}


@pytest.mark.parametrize("config", [FILES, "small"], ids=["URLs", "named"])
def test_no_download(config: object, saved: Path) -> None:
    """With or without a fingerprint that its author knows."""
    path = changed(saved, without_fingerprint(config))
    with pytest.raises(ResourceNotFoundError, match="nothing is downloaded at this point"):
        keras.models.load_model(path)
    path = changed(saved, lambda layer: layer["config"].update(config=config))
    assert keras.models.load_model(path)  # from the weights inside


def test_a_path_that_it_names_is_read_and_goes_nowhere(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    files = {"options_file": str(tmp_path / "secret"), "weight_file": str(tmp_path / "secret")}
    with pytest.raises(CheckpointError, match="must hold the options of an ELMo biLM"):
        keras.models.load_model(changed(saved, without_fingerprint(files)))


def test_options_that_claim_terabytes(saved: Path) -> None:
    path = changed(saved, lambda layer: layer["config"]["options"]["lstm"].update(dim=2**31 - 1))
    with pytest.raises(CheckpointError, match=f"bytes of weights, more than {MAX_HOLLOW_BYTES}"):
        keras.models.load_model(path)


def test_options_that_are_none(saved: Path) -> None:
    path = changed(saved, lambda layer: layer["config"]["options"]["lstm"].update(dim="x"))
    with pytest.raises(CheckpointError, match=r"Received: a saved model, in which:\n  - lstm.dim"):
        keras.models.load_model(path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"fingerprint": ["a", "list"]}, "The `fingerprint` of a saved model must be a string"),
        ({"config": {"weight_file": "weights.hdf5"}}, "A saved `config` must have options_file and weight_file"),
        ({"config": {**FILES, "url": "x"}}, "A saved `config` must have options_file and weight_file"),
    ],
)
def test_a_config_that_no_layer_saves(change: dict[str, Any], words: str, saved: Path) -> None:
    # Keras puts the message into a TypeError of its own where it can.
    with pytest.raises((BridgeError, TypeError), match=words):
        keras.models.load_model(changed(saved, lambda layer: layer["config"].update(change)))


@pytest.mark.parametrize("name", ["external_link", "virtual_dataset", "never_written", "chunk_that_is_a_bomb"])
def test_hostile_weights_inside(name: str, saved: Path, tmp_path: Path) -> None:
    inside = weights_inside(saved)
    weights = tmp_path / "w.hdf5"
    with zipfile.ZipFile(saved) as reader:
        weights.write_bytes(reader.read(inside))
    change, words = HOSTILE[name]
    with h5py.File(weights, "r+") as file:
        change(file, tmp_path)
    # Keras puts the message of what can't be loaded into a ValueError of its own.
    with pytest.raises(ValueError, match="The weights inside a saved model must be sound") as error:
        keras.models.load_model(changed(saved, files={inside: weights.read_bytes()}))
    assert words in str(error.value)


def test_other_weights_inside(saved: Path, tmp_path: Path) -> None:
    other = Path(random_model(tmp_path / "other", seed=1).weight_file).read_bytes()
    with pytest.raises(ValueError, match="must have its fingerprint"):
        keras.models.load_model(changed(saved, files={weights_inside(saved): other}))


def test_code_is_refused_by_keras(saved: Path, tmp_path: Path) -> None:
    keras.Sequential([keras.Input((1,)), keras.layers.Lambda(lambda x: 2 * x)]).save(tmp_path / "l.keras")
    with pytest.raises(ValueError, match="safe_mode"):
        keras.models.load_model(tmp_path / "l.keras")

    def swap(layer: dict[str, Any]) -> None:
        config = {"command": f"touch {tmp_path}/ran"}
        layer.update(module="os", class_name="system", registered_name=None, config=config)

    with pytest.raises((TypeError, ValueError)):
        keras.models.load_model(changed(saved, swap))
    assert not (tmp_path / "ran").exists()
