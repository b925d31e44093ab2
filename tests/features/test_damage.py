"""A damaged feature file is an error that says so: never other numbers, never a crash."""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from features.samples import metadata_of, write_store

from bridge.errors import FeatureStoreError, ResourceNotFoundError
from bridge.features import packed_layout
from bridge.features.store import FeatureStore

both_layouts = pytest.mark.parametrize("layout", ["elmo", "packed"])


def contents(path: Path) -> dict[str, Any]:
    """All that a store gives."""
    with FeatureStore.open(path) as store:
        features, lengths = store.read()
        one_by_one = [store[index].tobytes() for index in range(len(store))]
        return {
            "metadata": store.metadata,
            "features": features.tobytes(),
            "lengths": (lengths.tolist(), store.lengths.tolist()),
            "one by one": one_by_one,
            "sentences": list(store.sentences()),
        }


def changed_by_flips(path: Path, places: list[int]) -> dict[int, list[str]]:
    """Flips single bits; returns what has silently changed, by the number of the bit."""
    sound = contents(path)
    data = bytearray(path.read_bytes())
    changed = {}
    refused = 0
    with open(path, "r+b") as file:
        for place in places:
            file.seek(place // 8)
            file.write(bytes([data[place // 8] ^ 1 << place % 8]))
            file.flush()
            try:
                found = contents(path)
            except FeatureStoreError:
                refused += 1
            else:
                if found != sound:
                    changed[place] = [key for key in found if found[key] != sound[key]]
            file.seek(place // 8)
            file.write(data[place // 8 : place // 8 + 1])
            file.flush()
    assert refused > len(places) // 10
    return changed


@pytest.mark.slow
def test_flipped_bits_of_a_packed_file(tmp_path: Path) -> None:
    """A bit of every byte."""
    path = tmp_path / "f.hdf5"
    write_store(path, layout="packed")
    rng = random.Random(0)
    assert changed_by_flips(path, [8 * byte + rng.randrange(8) for byte in range(path.stat().st_size)]) == {}


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        {"layout": "packed"},
        {"layout": "packed", "compression": "gzip"},
        {"use_sentence_keys": True},
        {"forget_sentences": True},
    ],
    ids=str,
)
def test_every_flipped_bit(arguments: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "f.hdf5"
    write_store(path, **arguments)
    assert changed_by_flips(path, list(range(8 * path.stat().st_size))) == {}


@pytest.mark.slow
@pytest.mark.parametrize("use_sentence_keys", [False, True])
def test_flipped_bits_of_an_elmo_file(use_sentence_keys: bool, tmp_path: Path) -> None:
    """HDF5 keeps no checksum of `sentence_to_index`: what it says of sentences may change, and nothing else."""
    path = tmp_path / "f.hdf5"
    write_store(path, use_sentence_keys=use_sentence_keys)
    changed = changed_by_flips(path, random.Random(1).sample(range(8 * path.stat().st_size), 500))
    if use_sentence_keys:
        assert changed == {}
    assert all(what == ["sentences"] for what in changed.values())


def test_flipped_bits_of_a_file_of_many_chunks_and_sentences(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where HDF5 has trees of chunks and of names."""
    monkeypatch.setattr(packed_layout, "CHUNK_BYTES", 64)
    for layout in ("packed", "elmo"):
        path = tmp_path / layout
        metadata = metadata_of(layers="top", output_dim=2)
        lengths = [3] * (60 if layout == "elmo" else 2000)
        features = [np.full((3, 2), index, np.float32) for index in range(len(lengths))]
        write_store(path, metadata, features, ["s"] * len(lengths), layout=layout, forget_sentences=True)
        with FeatureStore.open(path) as store:
            sound = store.read()[0]
        size = path.stat().st_size
        data = path.read_bytes()
        rng = random.Random(2)
        # Beside the data: HDF5's own structures begin with these four letters.
        structures = [
            place for name in (b"EA", b"BT", b"FRHP", b"FHDB", b"FHIB", b"FA", b"OHDR") for place in _all(data, name)
        ]
        places = [min(size - 1, start + rng.randrange(64)) for start in rng.choices(structures, k=90)]
        places += [rng.randrange(size) for _ in range(30)]
        for place in places:
            path.write_bytes(data[:place] + bytes([data[place] ^ 1 << rng.randrange(8)]) + data[place + 1 :])
            try:
                with FeatureStore.open(path) as store:
                    np.testing.assert_array_equal(store.read()[0], sound)
            except FeatureStoreError:
                pass


def _all(data: bytes, name: bytes) -> Iterator[int]:
    place = data.find(name)
    while place >= 0:
        yield place
        place = data.find(name, place + 1)


@both_layouts
def test_truncated_files(layout: str, tmp_path: Path) -> None:
    path = tmp_path / "f.hdf5"
    write_store(path, layout=layout)
    data = path.read_bytes()
    for size in {*range(0, len(data), 37), *range(64), len(data) - 1}:
        path.write_bytes(data[:size])
        with pytest.raises(FeatureStoreError, match=r"f\.hdf5"):
            contents(path)
    path.write_bytes(data)
    contents(path)


def test_other_files(tmp_path: Path) -> None:
    cases = {
        b"": "no HDF5 file, or a damaged one",
        b"PAR1 and so on": "a Parquet file.*elmo-bridge convert",
        b"version https://git-lfs.github.com/spec/v1": "git lfs pull",
        b"\x89HDF\r\n\x1a\n": "damaged or incomplete HDF5",
        b"the cat sat\n" * 100: "no HDF5 file",
    }
    for data, message in cases.items():
        (tmp_path / "f.hdf5").write_bytes(data)
        with pytest.raises(FeatureStoreError, match=message):
            FeatureStore.open(tmp_path / "f.hdf5")
    with pytest.raises(FeatureStoreError, match=r"a folder.*elmo-bridge convert"):
        FeatureStore.open(tmp_path)
    for missing in ("g.hdf5", "f.hdf5/g.hdf5"):
        with pytest.raises(ResourceNotFoundError, match="must be there"):
            FeatureStore.open(tmp_path / missing)


@contextmanager
def damaged(path: Path, layout: str, **arguments: Any) -> Iterator[h5py.File]:
    """A sound store, open to be damaged by h5py."""
    write_store(path, layout=layout, overwrite=True, **arguments)
    with h5py.File(path, "a", libver=("v110", "v110")) as file:
        yield file


def replace(file: h5py.File, name: str, data: Any, **arguments: Any) -> None:
    del file[name]
    file.create_dataset(name, data=data, **arguments)


PACKED_DAMAGE: dict[str, tuple[Callable[[h5py.File], Any], str]] = {
    "no features": (lambda file: file.__delitem__("features"), "the dataset 'features' is missing"),
    "no offsets": (lambda file: file.__delitem__("offsets"), "the dataset 'offsets' is missing"),
    "no sentence offsets": (lambda file: file.__delitem__("sentence_offsets"), "'sentence_offsets' is missing"),
    "a group": (lambda file: (file.__delitem__("features"), file.create_group("features")), "'features' can't be read"),
    "fewer tokens": (lambda file: replace(file, "features", np.zeros((16, 3, 4), "f4"), chunks=True), "metadata say"),
    "another dtype": (lambda file: replace(file, "features", np.zeros((17, 3, 4), "f8"), chunks=True), "float64"),
    "another shape": (lambda file: replace(file, "features", np.zeros((17, 12), "f4"), chunks=True), r"\(17, 12\)"),
    "not chunked": (lambda file: replace(file, "features", np.zeros((17, 3, 4), "f4")), "'features'"),
    "float offsets": (lambda file: replace(file, "offsets", np.full(8, np.nan)), "float64, where .* int64"),
    "falling offsets": (lambda file: replace(file, "offsets", np.array([0, 3, 2, 5, 11, 12, 14, 17])), "does not rise"),
    "negative offsets": (lambda file: replace(file, "offsets", np.array([-1, 3, 3, 5, 11, 12, 14, 17])), "rise from 0"),
    "offsets beyond": (lambda file: replace(file, "offsets", np.array([0, 3, 3, 5, 11, 12, 14, 18])), "from 0 to 17"),
    "fewer offsets": (lambda file: replace(file, "offsets", np.array([0, 17])), r"\(8,\) and int64 fit"),
    "no layout": (lambda file: file.attrs.__delitem__("layout"), "'layout'"),
    "another layout": (lambda file: file.attrs.__setitem__("layout", np.bytes_("flat")), "'flat'"),
    "elmo's layout": (lambda file: file.attrs.__setitem__("layout", np.bytes_("elmo")), "'keys'"),
    "no metadata": (lambda file: file.attrs.__delitem__("elmo_bridge"), "'elmo_bridge' is missing"),
    "numbers for metadata": (lambda file: file.attrs.__setitem__("elmo_bridge", 1.5), "'elmo_bridge' claims"),
    "text for metadata": (lambda file: file.attrs.__setitem__("elmo_bridge", np.bytes_("{}")), "`fingerprint`"),
    "bytes for metadata": (lambda file: file.attrs.__setitem__("elmo_bridge", np.bytes_(b"\xff")), "elmo_bridge"),
    "an object": (lambda file: file.attrs.__setitem__("layout", file.ref), "'layout'"),
}

ELMO_DAMAGE: dict[str, tuple[Callable[[h5py.File], Any], str]] = {
    "a missing sentence": (lambda file: file.__delitem__("3"), "say 7 sentences, and 6 are there"),
    "another name": (lambda file: file.move("3", "7"), "the dataset '3' is missing"),
    "a group": (lambda file: (file.__delitem__("3"), file.create_group("3")), "'3' can't be read"),
    "fewer tokens": (lambda file: replace(file, "3", np.zeros((3, 5, 4), "f4")), "the dataset '3' has 5 tokens, not 6"),
    "another dtype": (lambda file: replace(file, "3", np.zeros((3, 6, 4), "f8")), "float64, where"),
    "integers": (lambda file: replace(file, "3", np.zeros((3, 6, 4), "i4")), "int32, where"),
    "another shape": (lambda file: replace(file, "3", np.zeros((6, 4), "f4")), r"\(6, 4\)"),
    "text": (lambda file: replace(file, "3", "text"), "the dataset '3'"),
    "other lengths": (lambda file: file.attrs.__setitem__("timesteps", np.zeros(7, "i4")), "'timesteps' does not fit"),
    "fewer lengths": (lambda file: file.attrs.__setitem__("timesteps", np.zeros(3, "i4")), "'timesteps' does not fit"),
    "text for lengths": (lambda file: file.attrs.__setitem__("timesteps", np.bytes_("{}")), "'timesteps' is text"),
    "text for a checksum": (
        lambda file: file.attrs.__setitem__("timesteps_crc32", np.bytes_("{}")),
        "'timesteps' does not fit",
    ),
    "no checksum": (lambda file: file.attrs.__delitem__("timesteps_crc32"), "'timesteps' does not fit"),
    "no sentences": (lambda file: replace(file, "sentence_to_index", ["no JSON"]), "'sentence_to_index' can't be read"),
    "other sentences": (lambda file: replace(file, "sentence_to_index", ['{"a": "99"}']), "'sentence_to_index'"),
    "a list of sentences": (lambda file: replace(file, "sentence_to_index", ["[1]"]), "'sentence_to_index'"),
    "numbers for sentences": (lambda file: replace(file, "sentence_to_index", [1]), "'sentence_to_index'"),
    "no keys": (lambda file: file.attrs.__delitem__("keys"), "'keys'"),
}


@pytest.mark.parametrize("name", PACKED_DAMAGE)
def test_damage_of_the_packed_layout(name: str, tmp_path: Path) -> None:
    damage, message = PACKED_DAMAGE[name]
    with damaged(tmp_path / "f.hdf5", "packed") as file:
        damage(file)
    with pytest.raises(FeatureStoreError, match=rf"f\.hdf5.*{message}"):
        contents(tmp_path / "f.hdf5")


@pytest.mark.parametrize("name", ELMO_DAMAGE)
def test_damage_of_the_elmo_layout(name: str, tmp_path: Path) -> None:
    damage, message = ELMO_DAMAGE[name]
    with damaged(tmp_path / "f.hdf5", "elmo") as file:
        damage(file)
    with pytest.raises(FeatureStoreError, match=rf"f\.hdf5.*{message}"):
        contents(tmp_path / "f.hdf5")


def test_no_lengths_are_counted(tmp_path: Path) -> None:
    """A copy by a program that leaves attributes out of it is sound."""
    write_store(tmp_path / "f.hdf5")
    sound = contents(tmp_path / "f.hdf5")
    with h5py.File(tmp_path / "f.hdf5", "a") as file:
        del file.attrs["timesteps"]
    assert contents(tmp_path / "f.hdf5") == sound


@both_layouts
def test_data_elsewhere_are_not_read(layout: str, tmp_path: Path) -> None:
    """Not by links, not by external storage, not by virtual datasets: a file must not read others."""
    shape, name = ((17, 3, 4), "features") if layout == "packed" else ((3, 6, 4), "3")
    secret = tmp_path / "secret.hdf5"
    with h5py.File(secret, "w") as file:
        file[name] = np.ones(shape, "f4")
    (tmp_path / "raw").write_bytes(np.ones(shape, "f4").tobytes())

    def external_link(file: h5py.File) -> None:
        file[name] = h5py.ExternalLink(str(secret), name)

    def soft_link(file: h5py.File) -> None:
        file[name] = h5py.SoftLink("/offsets" if layout == "packed" else "/0")

    def external_storage(file: h5py.File) -> None:
        size = int(np.prod(shape)) * 4
        file.create_dataset(name, shape, "f4", external=[(str(tmp_path / "raw"), 0, size)])

    def virtual(file: h5py.File) -> None:
        sources = h5py.VirtualLayout(shape, "f4")
        sources[:] = h5py.VirtualSource(str(secret), name, shape, "f4")
        file.create_virtual_dataset(name, sources)

    for damage, message in (
        (external_link, "a link to somewhere else"),
        (soft_link, "a link to somewhere else"),
        (external_storage, "its data in another file"),
        (virtual, "its data in another file"),
    ):
        with damaged(tmp_path / "f.hdf5", layout) as file:
            del file[name]
            damage(file)
        with pytest.raises(FeatureStoreError, match=message):
            contents(tmp_path / "f.hdf5")


@both_layouts
@pytest.mark.parametrize("compression", [None, "gzip"])
def test_claims_of_terabytes_allocate_nothing(layout: str, compression: str | None, tmp_path: Path) -> None:
    path = tmp_path / "f.hdf5"
    tokens = 10 * 10**12 // 48
    metadata = metadata_of(sentences=1, tokens=tokens)
    write_store(path, metadata, [], [], layout=layout)
    with h5py.File(path, "a", libver=("v110", "v110")) as file:
        file.attrs["elmo_bridge"] = np.bytes_(metadata.to_json())
        name, shape = ("features", (tokens, 3, 4)) if layout == "packed" else ("0", (3, tokens, 4))
        if layout == "packed":
            del file["features"], file["offsets"]
            file["offsets"] = np.array([0, tokens])
        else:
            del file.attrs["timesteps"]
        limits = tuple(None if size == tokens else size for size in shape)
        chunk = tuple(limit or 5000 for limit in limits)
        dataset = file.create_dataset(name, shape, "f4", maxshape=limits, chunks=chunk, compression=compression)
        dataset[:1, :1, :1] = 1  # one chunk is there
    began = time.monotonic()
    with pytest.raises(FeatureStoreError):
        contents(path)
    assert time.monotonic() - began < 5
