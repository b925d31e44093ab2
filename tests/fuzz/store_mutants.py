"""Mutants of stored features: what has checksums gives the numbers of the original, or an error."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from features.samples import SENTENCES, features_of, metadata_of, write_store
from fuzz.kind import Kind, anything, mutate_bytes, mutate_hdf5, nothing

from bridge.features.parquet import ParquetWriter, read_parquet
from bridge.features.store import FeatureStore


def _store(**arguments: Any) -> Callable[[Path], None]:
    return lambda folder: void(write_store(folder / "f.hdf5", **arguments))


def void(_: object) -> None:
    """Of what is called for what it does."""


def _make_foreign_store(folder: Path) -> None:
    """As AllenNLP 0.9 wrote it: h5py's oldest format, in which nothing has a checksum."""
    with h5py.File(folder / "f.hdf5", "w") as file:
        for number, features in enumerate(features_of(metadata_of())):
            file.create_dataset(str(number), data=features.transpose(1, 0, 2))
        indices = {sentence: str(number) for number, sentence in enumerate(SENTENCES)}
        file.create_dataset("sentence_to_index", (1,), h5py.string_dtype())[0] = json.dumps(indices)


def _mutate_store(rng: random.Random, folder: Path) -> str:
    return rng.choice((mutate_bytes, mutate_bytes, mutate_bytes, mutate_hdf5))(rng, folder / "f.hdf5")


def _read_store(folder: Path) -> Any:
    with FeatureStore.open(folder / "f.hdf5") as store:
        features, lengths = store.read()
        assert features.dtype == store.dtype
        assert features.shape == (lengths.sum(), *store.token_shape)
        assert lengths.tolist() == store.lengths.tolist()
        for length, values in zip(lengths, store, strict=True):
            assert values.dtype == np.float32
            assert values.shape == (length, *store.token_shape)
        sentences = list(store.sentences())
        assert all(isinstance(sentence, str | None) for sentence in sentences)
        return features.tobytes(), lengths.tolist(), store.metadata and store.metadata.to_json()


def _by_library(done: str) -> bool:
    """Whether the library itself wrote what was changed, checksums included."""
    return " of '" in done


def _make_parquet(folder: Path) -> None:
    metadata = metadata_of()
    with ParquetWriter(folder / "f.parquet", metadata, None, overwrite=False) as writer:
        for features, sentence in zip(features_of(metadata), SENTENCES, strict=True):
            writer.append(features, sentence)


def _read_parquet(folder: Path) -> Any:
    metadata, rows = read_parquet(folder / "f.parquet")
    contents = []
    for number, row in enumerate(rows):
        assert row.sentence_id == number
        assert row.features.shape[1:] == metadata.token_shape
        assert row.features.dtype == metadata.dtype
        contents.append((row.sentence, row.features.tobytes()))
    assert len(contents) == metadata.sentences
    # Without the metadata: Parquet keeps no checksum of them.
    return contents


def _mutate_parquet(rng: random.Random, folder: Path) -> str:
    return mutate_bytes(rng, folder / "f.parquet")


STORES = {
    "elmo": Kind(_store(layout="elmo"), _mutate_store, _read_store, _by_library),
    "elmo-keys-gzip": Kind(
        _store(layout="elmo", use_sentence_keys=True, compression="gzip"), _mutate_store, _read_store, _by_library
    ),
    "packed": Kind(_store(layout="packed"), _mutate_store, _read_store, _by_library),
    "packed-lzf": Kind(_store(layout="packed", compression="lzf"), _mutate_store, _read_store, _by_library),
    "allennlp": Kind(_make_foreign_store, _mutate_store, _read_store, anything),
    "parquet": Kind(_make_parquet, _mutate_parquet, _read_parquet, nothing),
}
