"""`write_checkpoint`, `bilm_weights` and `initial_weights`: what one writes the other side opens."""

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from models import options_dict

from bridge.encoder.encoder import ElmoEncoder
from bridge.errors import InputValueError
from bridge.pretrain.export import bilm_weights, write_checkpoint
from bridge.pretrain.weights import initial_weights
from bridge.resources.checkpoint import Checkpoint, expected_datasets
from bridge.resources.options import ElmoOptions

OPTIONS = ElmoOptions.model_validate_json(json.dumps(options_dict()))
CELL = "RNN_0/RNN/MultiRNNCell/Cell0/LSTMCell"


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_round_trip(dtype: type[np.floating], tmp_path: Path) -> None:
    weights = {name: values.astype(dtype) for name, values in initial_weights(OPTIONS, 0).items()}
    checkpoint = Checkpoint.open(write_checkpoint(tmp_path / "new" / "folder", OPTIONS, weights))
    assert checkpoint.options == OPTIONS
    with h5py.File(checkpoint.weight_file) as file:
        for name, values in weights.items():
            assert file[name].dtype == dtype
            np.testing.assert_array_equal(file[name][()], values)


def test_same_arguments_same_bytes(tmp_path: Path) -> None:
    weights = initial_weights(OPTIONS, 0)
    backwards = dict(reversed(weights.items()))
    first, second = (
        Checkpoint.open(write_checkpoint(tmp_path / name, OPTIONS, given))
        for name, given in (("a", weights), ("b", backwards))
    )
    assert first.fingerprint == second.fingerprint
    with h5py.File(first.weight_file) as file:  # the time of writing, in seconds, would be a difference
        assert {h5py.h5g.get_objinfo(file[name].id).mtime for name in weights} == {0}


def test_replaces_what_was_there(tmp_path: Path) -> None:
    for seed in (0, 1):
        checkpoint = Checkpoint.open(write_checkpoint(tmp_path, OPTIONS, initial_weights(OPTIONS, seed)))
    fresh = write_checkpoint(tmp_path / "fresh", OPTIONS, initial_weights(OPTIONS, 1))
    assert checkpoint.fingerprint == Checkpoint.open(fresh).fingerprint


@pytest.mark.parametrize("sizes", [{}, {"n_layers": 1, "n_highway": 2}, {"n_layers": 3, "filters": ((2, 3),)}], ids=str)
def test_bilm_weights_are_those_that_were_loaded(sizes: dict[str, Any], tmp_path: Path) -> None:
    options = ElmoOptions.model_validate_json(json.dumps(options_dict(**sizes)))
    generator = np.random.default_rng(0)
    weights = {name: generator.random(shape, np.float32) for name, shape in expected_datasets(options).items()}
    bilm = ElmoEncoder(write_checkpoint(tmp_path, options, weights), engine="allennlp").module._elmo_lstm
    received = bilm_weights(bilm)
    assert received.keys() == weights.keys()
    for name, values in weights.items():
        assert received[name].dtype == np.float32
        np.testing.assert_allclose(received[name], values, rtol=0, atol=1e-7)  # forget biases: one added and taken


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({f"{CELL}/B": None}, f"{CELL}/B: missing, must be a float array of shape (40,)"),
        ({f"{CELL}/B": np.zeros(41)}, f"{CELL}/B: float64 (41,), must be a float array of shape (40,)"),
        ({f"{CELL}/B": np.zeros(40, int)}, f"{CELL}/B: int64 (40,), must be a float array"),
        ({f"{CELL}/B": np.zeros(40, ">f4")}, f"{CELL}/B: >f4 (40,), must be a float array"),
        ({f"{CELL}/B": ["0"] * 40}, f"{CELL}/B: <U1 (40,), must be a float array"),
        ({"CNN_high_1/W_carry": np.zeros(3)}, "CNN_high_1/W_carry: unknown"),
    ],
)
def test_refuses_what_could_not_be_opened(change: dict[str, Any], fault: str, tmp_path: Path) -> None:
    weights: dict[str, Any] = initial_weights(OPTIONS, 0) | change | {"char_embed": np.zeros(1)}
    with pytest.raises(InputValueError) as error:
        write_checkpoint(tmp_path, OPTIONS, {name: values for name, values in weights.items() if values is not None})
    assert isinstance(error.value, ValueError)
    assert str(error.value).startswith("`weights` must be the datasets that `options` describe. Received: ")
    assert fault in str(error.value)
    assert "char_embed: float64 (1,), must be" in str(error.value)  # every fault, not the first
    assert not list(tmp_path.iterdir())


def test_initial_weights_keep_the_variance() -> None:
    options = ElmoOptions.model_validate_json(
        json.dumps(options_dict(dim=64, projection_dim=32, char_dim=16, filters=((1, 64), (3, 64))))
    )
    weights, doubled = initial_weights(options, 3), initial_weights(options, 3, scale=2.0)
    assert {name: values.shape for name, values in weights.items()} == expected_datasets(options)
    assert {values.dtype for values in weights.values()} == {np.dtype(np.float32)}
    for name, fan_in in (
        ("char_embed", 1),
        ("CNN/W_cnn_1", 3 * 16),
        ("CNN_high_0/W_carry", 128),
        ("CNN_proj/W_proj", 128),
        (f"{CELL}/W_0", 64),
        (f"{CELL}/W_P_0", 64),
    ):
        assert weights[name].std() == pytest.approx(fan_in**-0.5, rel=0.1)
        factor = 2 if name.startswith("RNN") else 1
        np.testing.assert_allclose(doubled[name], factor * weights[name], rtol=1e-6)
    biases = {name: set(values.tolist()) for name, values in weights.items() if values.ndim == 1}
    assert biases == {name: {-2.0 if name.endswith("b_carry") else 0.0} for name in biases}


def test_seeds_decide() -> None:
    first, again, other = (initial_weights(OPTIONS, seed)["char_embed"] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
