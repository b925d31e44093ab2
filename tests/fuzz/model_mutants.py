"""Mutants of models: weights and options, INI files, and whole models that Keras saved.

Of weights an encoder of either engine must refuse them or give finite numbers, and both the same.
"""

import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from fuzz.kind import Kind, anything, mutate_bytes, mutate_hdf5, mutate_json, nothing
from models import random_model

from bridge.resources.checkpoint import Checkpoint
from bridge.resources.config import ElmoConfig

# Weights so large make numbers so large that two correct programs differ.
ORDINARY = 100.0
TEXT = [["The", "cat", "sat"], ["Größe"], []]


def _make_weights(folder: Path) -> None:
    random_model(folder)


def _mutate_weights(rng: random.Random, folder: Path) -> str:
    mutation, name = rng.choice(
        (
            (mutate_bytes, "weights.hdf5"),
            (mutate_bytes, "weights.hdf5"),
            (mutate_hdf5, "weights.hdf5"),
            (mutate_hdf5, "weights.hdf5"),
            (mutate_json, "options.json"),
            (mutate_bytes, "options.json"),
        )
    )
    return mutation(rng, folder / name)


def _read_weights(folder: Path) -> Any:
    from bridge.encoder.encoder import ElmoEncoder
    from bridge.text.characters import batch_to_ids

    config = ElmoConfig(str(folder / "options.json"), str(folder / "weights.hdf5"))
    ids = batch_to_ids(TEXT)
    results = {}
    for engine in ("fused", "allennlp"):
        encoder = ElmoEncoder(config, engine=engine)
        activations, mask = encoder(ids)
        assert activations.shape == (3, 3, encoder.num_layers, encoder.output_dim)
        assert mask.sum(1).tolist() == [3, 1, 0]
        results[engine] = activations.numpy()
        assert np.isfinite(results[engine]).all(), f"numbers of {engine} are not finite"
    if _largest(folder / "weights.hdf5") < ORDINARY:
        np.testing.assert_allclose(results["fused"], results["allennlp"], rtol=1e-3, atol=1e-3)
    return results["allennlp"].tobytes()


def _largest(path: Path) -> float:
    """Of all weights that are read: a mutant may have datasets that no one can read."""
    from bridge.resources.checkpoint import expected_datasets
    from bridge.resources.options import read_options

    names = expected_datasets(read_options(path.with_name("options.json"), "the mutant"))
    with h5py.File(path, "r") as file:
        return max(float(np.abs(file[name][()]).max(initial=0)) for name in names)


# INI files: whatever they say, a checkpoint is opened or refused.


def _make_ini(folder: Path) -> None:
    config = random_model(folder)
    (folder / "elmo.ini").write_text(
        "# The demo model\n[ELMO]\n"
        f"options_file = {Path(config.options_file).name}\nweight_file: {Path(config.weight_file).name}\n"
        "options_sha256 =\n; weight_sha256 = 0\n"
    )


def _read_ini(folder: Path) -> Any:
    config = ElmoConfig.load(folder / "elmo.ini")
    assert isinstance(config.options_file, str)
    assert isinstance(config.weight_file, str)
    return Checkpoint.open(config).fingerprint


# Keras files: the archive, and each of its members in a sound archive.


def _make_keras(folder: Path) -> None:
    import keras

    from bridge.layers.embedding import ElmoEmbedding

    config = random_model(folder)
    inputs = keras.Input((None,), dtype="string")
    keras.utils.set_random_seed(0)
    pooled = keras.layers.GlobalAveragePooling1D()(ElmoEmbedding(config, embed_weights=True, dropout=0.0)(inputs))
    keras.Model(inputs, keras.layers.Dense(2)(pooled)).save(folder / "model.keras")
    Path(config.options_file).unlink()
    Path(config.weight_file).unlink()


def _mutate_keras(rng: random.Random, folder: Path) -> str:
    path = folder / "model.keras"
    if rng.random() < 0.25:
        return mutate_bytes(rng, path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = rng.choice(list(members))
    loose = folder / "member"
    loose.write_bytes(members[name])
    kind = rng.choice(("content", "content", "content", "rename", "delete", "bomb"))
    if kind == "content":
        mutations: list[Callable[[random.Random, Path], str]] = [mutate_bytes]
        if name.endswith(".json"):
            mutations += [mutate_json] * 4
        elif name.endswith((".h5", ".hdf5")):
            mutations += [mutate_hdf5] * 2
        done = rng.choice(mutations)(rng, loose)
        members[name] = loose.read_bytes()
    elif kind == "bomb":
        done = "500 MB of zeros"
        members[name] += bytes(500_000_000)
    else:
        done = kind
        content = members.pop(name)
        if kind == "rename":
            members[
                rng.choice(("../evil", "/tmp/evil", name.upper(), "assets/../" + name, name + "/x", "C:\\evil"))
            ] = content
    loose.unlink()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, content in members.items():
            archive.writestr(member, content)
    return f"{name}: {done}"


def _read_keras(folder: Path) -> Any:
    import keras
    import tensorflow as tf

    import bridge.layers.embedding  # noqa: F401 - so that Keras knows the layer

    model = keras.models.load_model(folder / "model.keras")
    tokens = tf.constant([["The", "cat"], ["sat", ""]])
    return np.asarray(model(tokens)).tobytes()


def _mutate_ini(rng: random.Random, folder: Path) -> str:
    return mutate_bytes(rng, folder / "elmo.ini")


MODELS = {
    "weights": Kind(_make_weights, _mutate_weights, _read_weights, anything),
    "ini": Kind(_make_ini, _mutate_ini, _read_ini, nothing),
    "keras": Kind(_make_keras, _mutate_keras, _read_keras, anything),
}
