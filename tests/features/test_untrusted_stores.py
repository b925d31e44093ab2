"""Feature files from strangers: what HDF5 would unpack without end is refused before it does."""

import os
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
import pytest
from features.samples import metadata_of, write_store
from resources.hostile_weights import ELSEWHERE, endless_virtual_dataset

from bridge.errors import FeatureStoreError
from bridge.features.store import FeatureStore


def write_bomb(path: Path, name: str, size: int) -> None:
    """Puts a chunk into a dataset out of which `size` bytes come, whatever it claims."""
    with h5py.File(path, "r+") as file:
        dataset = file[name].id
        # Fletcher's checksum is the last filter: HDF5 would look at these four bytes after unpacking is all done.
        dataset.write_direct_chunk((0,) * len(dataset.shape), zlib.compress(bytes(size)) + bytes(4))


@pytest.mark.parametrize(
    ("layout", "name", "place"),
    [("elmo", "0", "the dataset '0'"), ("packed", "features", "the dataset 'features', rows 0 to 3,")],
)
def test_chunk_that_is_a_bomb(layout: Literal["elmo", "packed"], name: str, place: str, tmp_path: Path) -> None:
    path = tmp_path / "f.hdf5"
    write_store(path, layout=layout, compression="gzip")
    write_bomb(path, name, 1 << 22)
    with FeatureStore.open(path) as store, pytest.raises(FeatureStoreError) as error:
        store[0]
    assert f"{place} has a chunk out of which more than the " in str(error.value)


def test_offsets_that_are_a_bomb(tmp_path: Path) -> None:
    path = tmp_path / "f.hdf5"
    write_store(path, layout="packed")
    with h5py.File(path, "r+") as file:
        offsets = file["offsets"][()]
        del file["offsets"]
        file.create_dataset("offsets", data=offsets, chunks=offsets.shape, compression="gzip")
        file["offsets"].id.write_direct_chunk((0,), zlib.compress(bytes(1 << 22)))
    with pytest.raises(FeatureStoreError, match="'offsets' has a chunk out of which more than the 64 bytes"):
        FeatureStore.open(path)


def replace(path: Path, **arguments: Any) -> None:
    with h5py.File(path, "r+") as file:
        values = file["0"][()]
        del file["0"]
        file.create_dataset("0", data=values, **arguments)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"chunks": (3, 3, 4), "scaleoffset": 3}, "HDF5's filter number 6"),
        ({"chunks": (3, 1 << 20, 4), "maxshape": (3, None, 4)}, "is read in pieces of 50331648"),
    ],
)
def test_other_ways_to_store(arguments: dict[str, Any], words: str, tmp_path: Path) -> None:
    path = tmp_path / "f.hdf5"
    write_store(path)
    replace(path, **arguments)
    with FeatureStore.open(path) as store, pytest.raises(FeatureStoreError) as error:
        store[0]
    assert words in str(error.value)


READS = """
import sys
from bridge import FeatureStore
FeatureStore.open(sys.argv[1])[0]
"""


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a POSIX system")
@pytest.mark.parametrize(("layout", "name"), [("elmo", "0"), ("packed", "features")])
def test_shape_that_is_asked_of_a_pipe(layout: Literal["elmo", "packed"], name: str, tmp_path: Path) -> None:
    """Nobody writes into the pipe: a program that opens it can only be killed."""
    path = tmp_path / "f.hdf5"
    write_store(path, layout=layout)
    with h5py.File(path, "r+") as file:
        endless_virtual_dataset(file, name, tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", READS, path],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert f"in which the dataset {name!r} {ELSEWHERE}" in done.stderr


@pytest.mark.parametrize("compression", ["gzip", "lzf"])
@pytest.mark.parametrize("layout", ["elmo", "packed"])
def test_sound_chunks_of_every_size_are_read(
    layout: Literal["elmo", "packed"], compression: Literal["gzip", "lzf"], tmp_path: Path
) -> None:
    """Zeros, which compress to almost nothing, and noise, which grows."""
    metadata = metadata_of(layers="top", output_dim=512)
    noise = np.random.default_rng(0).integers(0, 256, (300, 2048), np.uint8).view(np.float32)
    features = [np.zeros((300, 512), np.float32), np.nan_to_num(noise), np.ones((1, 512), np.float32)]
    path = tmp_path / "f.hdf5"
    write_store(path, metadata, features, [None] * 3, layout=layout, compression=compression)
    with FeatureStore.open(path) as store:
        for _ in range(2):
            for index, values in enumerate(features):
                np.testing.assert_array_equal(store[index], values)
