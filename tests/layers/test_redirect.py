"""Saved models whose weight files have moved: the environment says where to, and the fingerprint decides."""

import shutil
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from layers.harness import SENTENCES, tokens
from models import random_model
from resources.http_server import Server

from bridge import Checkpoint, ElmoConfig, ElmoEmbedding
from bridge.errors import CheckpointError, ConfigError, ResourceNotFoundError, UnsupportedError
from bridge.layers.saved_weights import VARIABLES, find_checkpoint

TOKENS = tokens(SENTENCES)
ADVICE = r"Put the original files back, or set ELMO_OPTIONS_FILE and ELMO_WEIGHT_FILE \(or ELMO_CONFIG\)"


class Moved:
    """A saved model, the files that it was saved with, where they are now, and another model's."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "model.keras"
        config = random_model(folder / "old")
        self.old = Path(config.options_file).parent
        self.other = Path(random_model(folder / "other", seed=1).options_file).parent
        inputs = keras.Input((None,), dtype="string")
        model = keras.Model(inputs, ElmoEmbedding(config, dropout=0.0)(inputs))
        model.save(self.path)
        self.wanted = model(TOKENS).numpy()
        self.layer_config = model.layers[1].get_config()
        self.new = folder / "new"
        shutil.move(self.old, self.new)

    def load(self) -> ElmoEmbedding:
        model = keras.models.load_model(self.path)
        np.testing.assert_array_equal(model(TOKENS), self.wanted)
        return model.layers[1]


@pytest.fixture
def moved(tmp_path: Path) -> Moved:
    return Moved(tmp_path)


def variables_for(kind: str, folder: Path) -> dict[str, str]:
    """The environment that names the files in `folder`."""
    if kind == "files":
        return {"ELMO_OPTIONS_FILE": str(folder / "options.json"), "ELMO_WEIGHT_FILE": str(folder / "weights.hdf5")}
    ini = folder / "elmo.ini"
    ini.write_text("[ELMO]\noptions_file = options.json\nweight_file = weights.hdf5\n")
    return {"ELMO_CONFIG": str(ini)}


def set_all(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("kind", ["files", "INI file"])
def test_files_that_have_moved(kind: str, moved: Moved, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    set_all(monkeypatch, variables_for(kind, moved.new))
    layer = moved.load()
    assert layer.checkpoint.weight_file == moved.new / "weights.hdf5"
    # The config stays as given, so that the file is the same wherever it was loaded.
    assert layer.get_config() == moved.layer_config
    model = keras.Sequential([keras.Input((None,), dtype="string"), layer])
    model.save(tmp_path / "again.keras")
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ResourceNotFoundError):
        keras.models.load_model(tmp_path / "again.keras")
    moved.new.rename(moved.old)
    np.testing.assert_array_equal(keras.models.load_model(tmp_path / "again.keras")(TOKENS), moved.wanted)


def test_nothing_set_says_what_to_set(moved: Moved) -> None:
    with pytest.raises(ResourceNotFoundError, match=rf"(?s)`options_file` must.*`weight_file` must.*{ADVICE}") as error:
        moved.load()
    assert isinstance(error.value, FileNotFoundError)
    assert str(moved.old) in str(error.value)
    assert moved.layer_config["fingerprint"] in str(error.value)


@pytest.mark.parametrize("kind", ["files", "INI file"])
def test_the_fingerprint_still_decides(kind: str, moved: Moved, monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(monkeypatch, variables_for(kind, moved.other))
    with pytest.raises(
        CheckpointError, match=rf"(?s)saved model: .*must name a file.*the environment: .* are other weights.*{ADVICE}"
    ):
        moved.load()


def test_the_models_own_files_come_first(moved: Moved, monkeypatch: pytest.MonkeyPatch) -> None:
    moved.new.rename(moved.old)
    set_all(monkeypatch, variables_for("files", moved.other))
    assert moved.load().checkpoint.weight_file == moved.old / "weights.hdf5"


def test_other_weights_in_the_old_place_do_not_hide_the_right_ones(
    moved: Moved, monkeypatch: pytest.MonkeyPatch
) -> None:
    random_model(moved.old, seed=1)
    set_all(monkeypatch, variables_for("files", moved.new))
    assert moved.load().checkpoint.weight_file == moved.new / "weights.hdf5"


BROKEN: dict[str, tuple[dict[str, str], str]] = {
    "weights only": ({"ELMO_WEIGHT_FILE": "NEW/weights.hdf5"}, "ELMO_OPTIONS_FILE"),
    "options only": ({"ELMO_OPTIONS_FILE": "NEW/options.json"}, "ELMO_WEIGHT_FILE"),
    "a wrong path": ({"ELMO_OPTIONS_FILE": "NEW/o.json", "ELMO_WEIGHT_FILE": "NEW/weights.hdf5"}, "NEW/o.json"),
    "an INI file that is not there": ({"ELMO_CONFIG": "NEW/none.ini"}, "NEW/none.ini"),
    "no such model": ({"ELMO_CONFIG": "smal"}, "smal"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_environment_is_named(case: str, moved: Moved, monkeypatch: pytest.MonkeyPatch) -> None:
    variables, text = BROKEN[case]
    set_all(monkeypatch, {name: value.replace("NEW", str(moved.new)) for name, value in variables.items()})
    with pytest.raises(ResourceNotFoundError, match=rf"(?s)the environment: .*{ADVICE}") as error:
        moved.load()
    assert text.replace("NEW", str(moved.new)) in str(error.value)
    # It is beside the point where the model finds its own.
    moved.new.rename(moved.old)
    moved.load()


def test_damaged_files_in_the_new_place(moved: Moved, monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(monkeypatch, variables_for("files", moved.new))
    with open(moved.new / "weights.hdf5", "r+b") as file:
        file.truncate(1000)
    with pytest.raises(CheckpointError, match=rf"(?s)the environment: .*truncated.*{ADVICE}"):
        moved.load()


def test_one_option_changed_is_another_model(moved: Moved, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fingerprint covers both files, to the byte."""
    set_all(monkeypatch, variables_for("files", moved.new))
    with open(moved.new / "options.json", "a") as file:
        file.write("\n")
    with pytest.raises(CheckpointError, match="are other weights"):
        moved.load()


def test_a_model_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = random_model(tmp_path / "old")
    set_all(monkeypatch, variables_for("files", tmp_path / "old"))
    layer = ElmoEmbedding()
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ResourceNotFoundError, match=rf"(?s)No ELMo weights were named.*{ADVICE}"):
        ElmoEmbedding.from_config(layer.get_config())
    set_all(monkeypatch, variables_for("INI file", tmp_path / "old"))
    again = ElmoEmbedding.from_config(layer.get_config())
    assert again.config is None
    assert again.checkpoint.weight_file == Path(config.weight_file)
    set_all(monkeypatch, variables_for("INI file", Path(random_model(tmp_path / "other", seed=1).weight_file).parent))
    with pytest.raises(CheckpointError, match="are other weights"):
        ElmoEmbedding.from_config(layer.get_config())


def test_relative_paths_are_of_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    random_model(tmp_path / "here" / "model")
    monkeypatch.chdir(tmp_path / "here")
    layer = ElmoEmbedding(ElmoConfig("model/options.json", "model/weights.hdf5"))
    saved = layer.get_config()
    assert saved["config"]["weight_file"] == "model/weights.hdf5"
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ResourceNotFoundError, match="A relative path is relative to the working directory"):
        ElmoEmbedding.from_config(saved)
    monkeypatch.chdir(tmp_path / "here")
    assert ElmoEmbedding.from_config(saved).get_config() == saved


# cached_path's Google client says so while it is imported.
@pytest.mark.filterwarnings("ignore:Please install grpcio-status:ImportWarning")
def test_loading_never_downloads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cached_path.common.CACHE_DIRECTORY", tmp_path / "cache")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    local, server = random_model(tmp_path), Server()
    try:
        for name in ("options.json", "weights.hdf5"):
            server.files[f"/{name}"] = (tmp_path / name).read_bytes()
        config = ElmoConfig(f"{server.url}/options.json", f"{server.url}/weights.hdf5")
        saved = {**ElmoEmbedding(local).get_config(), "config": config.to_dict()}
        with pytest.raises(
            ResourceNotFoundError, match=r'(?s)not in the cache.*Loading never downloads.*`Checkpoint\.open\("NAME"\)`'
        ):
            ElmoEmbedding.from_config(saved)
        assert not server.requests
        Checkpoint.open(config)
        server.requests.clear()
        assert ElmoEmbedding.from_config(saved).get_config() == saved
        assert not server.requests
        # What has changed at its address is not looked at either.
        server.files["/weights.hdf5"] = Path(random_model(tmp_path / "other", seed=1).weight_file).read_bytes()
        ElmoEmbedding.from_config(saved)
        Checkpoint.open(config)
        with pytest.raises(CheckpointError, match="are other weights"):
            ElmoEmbedding.from_config(saved)
    finally:
        server.stop()


@pytest.mark.parametrize("config", ["demo", None])
def test_only_the_fingerprint_counts(config: Any, monkeypatch: pytest.MonkeyPatch, small: ElmoConfig) -> None:
    """A name may come to mean other weights, in a later version for example."""
    with pytest.raises((CheckpointError, ResourceNotFoundError), match=r"of fingerprint 00\."):
        find_checkpoint(config, "00")
    fingerprint = ElmoEmbedding(small).get_config()["fingerprint"]
    monkeypatch.setenv("ELMO_OPTIONS_FILE", small.options_file)
    monkeypatch.setenv("ELMO_WEIGHT_FILE", small.weight_file)
    assert find_checkpoint(config, fingerprint).config.weight_file == small.weight_file


def test_a_warm_state_needs_the_weights_from_before_the_training(tmp_path: Path) -> None:
    """It is theirs, not that of the fine-tuned ones in the saved file."""
    config = random_model(tmp_path)
    saved = ElmoEmbedding(config, requires_grad=True, state="warm").get_config()
    assert ElmoEmbedding.from_config(saved).get_config() == saved
    Path(config.weight_file).unlink()
    with pytest.raises(ResourceNotFoundError, match=ADVICE):
        ElmoEmbedding.from_config(saved)


def test_a_warm_state_of_another_text_is_refused(small: ElmoConfig) -> None:
    saved = ElmoEmbedding(small, state="warm").get_config()
    with pytest.raises(UnsupportedError, match=r'`state="warm"` must be loaded by a version .*train the model again'):
        ElmoEmbedding.from_config({**saved, "warm_up_sha256": "0" * 64})


def test_a_hand_written_config_needs_no_fingerprint(small: ElmoConfig) -> None:
    layer = ElmoEmbedding.from_config({"config": small.to_dict(), "output_mode": "top"})
    assert layer.get_config()["fingerprint"] == layer.checkpoint.fingerprint
    with pytest.raises(ConfigError):
        ElmoEmbedding.from_config({"output_mode": "top"})
