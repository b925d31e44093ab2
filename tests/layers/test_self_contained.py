"""Saved models that bring their biLM along, where the weight files are gone."""

import gc
import os
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from layers.harness import SENTENCES, assert_close, tokens
from models import random_model

from bridge import ElmoConfig, ElmoEmbedding
from bridge.errors import BridgeError, CheckpointError, ResourceNotFoundError
from bridge.layers.saved_weights import _copies

TOKENS = tokens(SENTENCES)

KINDS: dict[str, dict[str, Any]] = {
    "embedded": {"embed_weights": True},
    "fine-tuned": {"requires_grad": True},
    "fine-tuned, embedded, warm": {"requires_grad": True, "embed_weights": True, "state": "warm"},
}


def trained_model(config: Any, **arguments: Any) -> keras.Model:
    inputs = keras.Input((None,), dtype="string")
    pooled = keras.layers.GlobalAveragePooling1D()(ElmoEmbedding(config, dropout=0.0, **arguments)(inputs))
    model = keras.Model(inputs, keras.layers.Dense(2)(pooled))
    model.compile(keras.optimizers.SGD(0.5), "mse")
    for weight in model.weights:
        weight.assign(weight + 0.02)
    return model


def remove(config: ElmoConfig) -> None:
    Path(config.options_file).unlink()
    Path(config.weight_file).unlink()


def forget() -> None:
    """Lets go of loaded models, and with them of their copies."""
    for _ in range(3):
        gc.collect()
    assert not _copies


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary folders go."""
    forget()  # what earlier tests left
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, np.ndarray]:
    """A self-contained model on disk whose weight files are gone, and what it predicts."""
    config = random_model(tmp_path)
    model = trained_model(config, embed_weights=True)
    model.save(tmp_path / "model.keras")
    remove(config)
    return tmp_path / "model.keras", model(TOKENS).numpy()


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_it_loads_predicts_trains_and_saves_again(kind: str, tmp_path: Path, temporary: Path) -> None:
    config = random_model(tmp_path)
    model = trained_model(config, **KINDS[kind])
    wanted = model(TOKENS)
    model.save(tmp_path / "model.keras")
    model.save(tmp_path / "folder", zipped=False)
    remove(config)
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(TOKENS), wanted)
    np.testing.assert_array_equal(keras.models.load_model(tmp_path / "folder")(TOKENS), wanted)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(loaded))(TOKENS), wanted)
    assert loaded.layers[1].get_config() == model.layers[1].get_config()

    for trained in (model, loaded):
        trained.fit(TOKENS, np.zeros((2, 2)), verbose=0)
    assert_close(loaded(TOKENS), model(TOKENS), 1e-6)
    assert np.abs(loaded(TOKENS) - wanted).max() > 1e-3
    loaded.save(tmp_path / "again.keras")
    np.testing.assert_array_equal(keras.models.load_model(tmp_path / "again.keras")(TOKENS), loaded(TOKENS))
    del loaded, model, trained
    forget()
    assert not list(temporary.iterdir()), "copies outlive their layers"


def test_files_are_copied_only_on_request(tmp_path: Path) -> None:
    config = random_model(tmp_path)
    for name, arguments, copied in [
        ("a", {}, False),
        ("b", KINDS["embedded"], True),
        ("c", KINDS["fine-tuned"], False),
    ]:
        trained_model(config, **arguments).save(tmp_path / f"{name}.keras")
        names = zipfile.ZipFile(tmp_path / f"{name}.keras").namelist()
        assert any(file.endswith("weights.hdf5") for file in names) == copied


@pytest.mark.slow
def test_clones_share_the_copy_and_outlive_the_model(saved: tuple[Path, np.ndarray], temporary: Path) -> None:
    path, wanted = saved
    loaded = keras.models.load_model(path)
    clone = keras.models.clone_model(loaded)
    clone.set_weights(loaded.get_weights())
    assert clone.layers[1].checkpoint is loaded.layers[1].checkpoint
    del loaded
    gc.collect()
    np.testing.assert_array_equal(clone(TOKENS), wanted)
    clone.save(path.with_name("clone.keras"))
    del clone
    forget()
    assert not list(temporary.iterdir())
    np.testing.assert_array_equal(keras.models.load_model(path.with_name("clone.keras"))(TOKENS), wanted)


def test_original_files_are_used_where_they_are(tmp_path: Path, temporary: Path) -> None:
    config = random_model(tmp_path)
    trained_model(config, embed_weights=True).save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.layers[1].checkpoint.weight_file == Path(config.weight_file)
    assert not list(temporary.iterdir())


def test_other_files_in_their_place_do_not_matter(saved: tuple[Path, np.ndarray], tmp_path: Path) -> None:
    random_model(tmp_path, seed=1)
    np.testing.assert_array_equal(keras.models.load_model(saved[0])(TOKENS), saved[1])


def swap_weights(content: bytes, folder: Path) -> bytes:
    return Path(random_model(folder / "other", seed=1).weight_file).read_bytes()


TAMPERINGS: dict[str, tuple[str, Callable[[bytes, Path], bytes | None], str]] = {
    "other weights": ("weights.hdf5", swap_weights, "must have its fingerprint .* Received: [0-9a-f]{64}"),
    "cut weights": ("weights.hdf5", lambda content, folder: content[:1000], "must be sound.*truncated"),
    "no weights": ("weights.hdf5", lambda content, folder: None, "must be sound.*weights.hdf5"),
    "other options": ("options.json", lambda content, folder: content + b" ", "must have its fingerprint"),
    "no options": ("options.json", lambda content, folder: None, "must be sound.*options.json"),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", TAMPERINGS)
def test_tampered_files_are_refused(case: str, saved: tuple[Path, np.ndarray], tmp_path: Path, temporary: Path) -> None:
    name, change, text = TAMPERINGS[case]
    tampered = tmp_path / "tampered.keras"
    with zipfile.ZipFile(saved[0]) as source, zipfile.ZipFile(tampered, "w") as target:
        for member in source.namelist():
            content: bytes | None = source.read(member)
            if content is not None and member.endswith(name):
                content = change(content, tmp_path)
            if content is not None:
                target.writestr(member, content)
    # Keras gathers what goes wrong in layers, and raises an error of its own kind.
    with pytest.raises(ValueError, match=rf"(?s){text}.*The file is damaged: save the model again"):
        keras.models.load_model(tampered)
    forget()
    assert not list(temporary.iterdir())


@pytest.mark.parametrize("change", ["gone", "other", "damaged"])
def test_weights_that_changed_since_cannot_be_embedded(change: str, tmp_path: Path) -> None:
    config = random_model(tmp_path)
    model = trained_model(config, embed_weights=True)
    wanted = model(TOKENS)
    originals = {path: path.read_bytes() for path in map(Path, (config.options_file, config.weight_file))}
    if change == "gone":
        remove(config)
    elif change == "other":
        random_model(tmp_path, seed=1)
    else:
        Path(config.weight_file).write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match=r"both weight files must still be what they were.*save again"):
        model.save(tmp_path / "model.keras")
    with pytest.raises(ValueError, match=r"model\.weights\.h5"):  # Keras leaves a file behind that says it is not whole
        keras.models.load_model(tmp_path / "model.keras")
    for path, content in originals.items():
        path.write_bytes(content)
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(keras.models.load_model(tmp_path / "model.keras")(TOKENS), wanted)


@pytest.mark.parametrize("kind", ["embedded", "fine-tuned"])
def test_a_config_alone_does_not_hold_the_weights(kind: str, tmp_path: Path, temporary: Path) -> None:
    """A layer without weights must not compute anything."""
    config = random_model(tmp_path)
    model = trained_model(config, **KINDS[kind])
    model.save_weights(tmp_path / "model.weights.h5")
    wanted, architecture = model(TOKENS), model.to_json()
    remove(config)
    empty = keras.models.model_from_json(architecture)
    with pytest.raises(ResourceNotFoundError, match=r"(?s)must be loaded with the ELMo weights.*ELMO_WEIGHT_FILE"):
        empty(TOKENS)
    with pytest.raises(BridgeError, match="must be loaded with the ELMo weights"):
        empty.predict(TOKENS, verbose=0)
    empty.load_weights(tmp_path / "model.weights.h5")
    if kind == "fine-tuned":  # they are among the model's weights
        np.testing.assert_array_equal(empty(TOKENS), wanted)
    else:
        with pytest.raises(ResourceNotFoundError):
            empty(TOKENS)


PROGRAM = """
import sys, tempfile
from pathlib import Path
import keras, numpy, tensorflow
from bridge import ElmoEmbedding
tokens = tensorflow.constant([["The", "cat", "sat"], ["Hello", "", ""]])
for index in range(int(sys.argv[1])):
    model = keras.models.load_model(f"{index}.keras")
    numpy.save(f"{index}.npy", model(tokens))
    model.save(f"again{index}.keras")
print(len(list(Path(tempfile.gettempdir()).glob("elmo-keras-bridge-*"))))
"""


@pytest.mark.slow
def test_in_a_fresh_process(tmp_path: Path, temporary: Path) -> None:
    """Which also cleans up when it ends."""
    wanted = []
    for index, arguments in enumerate(KINDS.values()):
        config = random_model(tmp_path / "weights")
        model = trained_model(config, **arguments)
        model.save(tmp_path / f"{index}.keras")
        wanted.append(model(TOKENS))
    remove(config)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(len(KINDS))],
        env={**os.environ, "TMPDIR": str(temporary), "PYTHONPATH": str(Path(__file__).parents[2])},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 0, "this test cannot see whether they are removed"
    assert not list(temporary.glob("elmo-keras-bridge-*"))
    for index, vectors in enumerate(wanted):
        assert_close(np.load(tmp_path / f"{index}.npy"), vectors, 1e-6)
        loaded = keras.models.load_model(tmp_path / f"again{index}.keras")
        assert_close(loaded(TOKENS), vectors, 1e-6)
