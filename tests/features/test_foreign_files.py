"""Files of AllenNLP 0.9's own `elmo` command: no metadata, and HDF5's oldest format."""

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from bridge.errors import FeatureStoreError
from bridge.features.store import FeatureStore


def write_as_allennlp(path: Path, features: dict[str, Any], sentences: list[str] | None = None) -> None:
    """As `allennlp.commands.elmo` did: `create_dataset` by name, then `sentence_to_index`."""
    with h5py.File(path, "w") as file:
        for key, values in features.items():
            file.create_dataset(key, values.shape, dtype="float32", data=values)
        if sentences is not None:
            sentence_index = file.create_dataset("sentence_to_index", (1,), dtype=h5py.special_dtype(vlen=str))
            sentence_index[0] = json.dumps({sentence: str(index) for index, sentence in enumerate(sentences)})


def random_layers(lengths: list[int], shape: tuple[int, ...] = (3, 0, 4)) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal((*shape[:-2], length, shape[-1])).astype(np.float32) for length in lengths]


def test_lines_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    """HDF5 itself has "10" before "2"."""
    layers = random_layers(list(range(1, 13)))
    sentences = [f"sentence {index}" for index in range(12)]
    write_as_allennlp(tmp_path / "f.hdf5", {str(i): values for i, values in enumerate(layers)}, sentences)
    with FeatureStore.open(tmp_path / "f.hdf5") as store:
        assert (store.metadata, store.layout, store.token_shape, len(store)) == (None, "elmo", (3, 4), 12)
        assert store.lengths.tolist() == list(range(1, 13))
        for index, values in enumerate(layers):
            np.testing.assert_array_equal(store[index], values.transpose(1, 0, 2))
        np.testing.assert_array_equal(store.read(3, 9)[0], np.concatenate(layers[3:9], axis=1).transpose(1, 0, 2))
        assert list(store.sentences()) == sentences


def test_one_layer_and_missing_lines(tmp_path: Path) -> None:
    vectors = random_layers([2, 1, 3], (0, 4))
    path = tmp_path / "f.hdf5"
    write_as_allennlp(path, dict(zip(["0", "2", "10"], vectors, strict=True)))
    with h5py.File(path, "a") as file:
        file["sentence_to_index"] = [json.dumps({"a b": "0", "c": "2", "d e f": "10"})]
    with FeatureStore.open(path) as store:
        assert (store.token_shape, store.lengths.tolist()) == ((4,), [2, 1, 3])
        np.testing.assert_array_equal(store[2], vectors[2])
        assert list(store.sentences()) == ["a b", "c", "d e f"]


def test_sentence_keys(tmp_path: Path) -> None:
    layers = random_layers([3, 2])
    write_as_allennlp(tmp_path / "f.hdf5", {"the cat sat": layers[0], "Hello .": layers[1]})
    with FeatureStore.open(tmp_path / "f.hdf5") as store:
        assert [store.sentence(index) for index in range(2)] == ["Hello .", "the cat sat"]  # the file knows no order
        np.testing.assert_array_equal(store[0], layers[1].transpose(1, 0, 2))
        np.testing.assert_array_equal(store[1], layers[0].transpose(1, 0, 2))


def test_a_slash_in_a_sentence_made_a_group(tmp_path: Path) -> None:
    layers = random_layers([3, 3])
    write_as_allennlp(tmp_path / "f.hdf5", {"and/or it": layers[0], "a b c": layers[1]})
    with FeatureStore.open(tmp_path / "f.hdf5") as store:
        np.testing.assert_array_equal(store[0], layers[1].transpose(1, 0, 2))
        with pytest.raises(FeatureStoreError, match="the dataset 'and'"):
            store[1]


@pytest.mark.parametrize("dtype", ["float16", ">f4", "float64"])
def test_other_float_types(dtype: str, tmp_path: Path) -> None:
    values = np.linspace(-1, 1, 24, dtype=np.float16).reshape(3, 2, 4)
    with h5py.File(tmp_path / "f.hdf5", "w") as file:
        file["0"] = values.astype(dtype)
    with FeatureStore.open(tmp_path / "f.hdf5") as store:
        assert store.dtype == (np.float16 if dtype == "float16" else np.float32)
        np.testing.assert_array_equal(store[0], values.transpose(1, 0, 2).astype(np.float32))


def test_the_file_does_not_say_which_weights(tmp_path: Path) -> None:
    write_as_allennlp(tmp_path / "f.hdf5", {"0": random_layers([2])[0]})
    with pytest.raises(FeatureStoreError, match=r"`config` must be given only .*which does not, as AllenNLP"):
        FeatureStore.open(tmp_path / "f.hdf5", config="demo")


def test_other_hdf5_files(tmp_path: Path) -> None:
    demo = Path(__file__).parents[2] / "bridge" / "resources" / "demo" / "weights.hdf5"
    with pytest.raises(FeatureStoreError, match=r"must be whole.*weights\.hdf5"):
        FeatureStore.open(demo)
    with h5py.File(tmp_path / "empty.hdf5", "w"):
        pass
    with pytest.raises(FeatureStoreError, match="no dataset of features is there"):
        FeatureStore.open(tmp_path / "empty.hdf5")
    with h5py.File(tmp_path / "ints.hdf5", "w") as file:
        file["0"] = np.zeros((3, 2, 4), int)
    with pytest.raises(FeatureStoreError, match="int64, where features are"):
        FeatureStore.open(tmp_path / "ints.hdf5")
    with h5py.File(tmp_path / "mixed.hdf5", "w") as file:
        file["0"], file["1"] = np.zeros((3, 2, 4), np.float32), np.zeros((3, 2, 5), np.float32)
    with FeatureStore.open(tmp_path / "mixed.hdf5") as store:
        assert store[0].shape == (2, 3, 4)
        with pytest.raises(FeatureStoreError, match=r"the dataset '1' has the shape \(3, 2, 5\)"):
            store[1]
