"""Weight files that a stranger could make, by name: each changes a sound file of `models.random_model`."""

import os
import zlib
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
from h5py import h5d, h5p, h5s, h5t

CELL = "RNN_0/RNN/MultiRNNCell/Cell0/LSTMCell"
NAME = f"{CELL}/B"  # float32 (40,)
LINK = "is a link to somewhere else, which is not followed"
ELSEWHERE = "has its data in another file, which is not read"

Change = Callable[[h5py.File, Path], None]
HOSTILE: dict[str, tuple[Change, str]] = {}


def hostile(words: str) -> Callable[[Change], Change]:
    """Registers a change and the words that the error must have."""

    def register(change: Change) -> Change:
        HOSTILE[change.__name__] = change, words
        return change

    return register


def other_file(folder: Path) -> Path:
    """Where the data would come from: a file of the user's."""
    path = folder / "secret.hdf5"
    with h5py.File(path, "w") as file:
        file["B"] = np.zeros(40, np.float32)
    return path


@hostile(LINK)
def external_link(file: h5py.File, folder: Path) -> None:
    del file[NAME]
    file[NAME] = h5py.ExternalLink(str(other_file(folder)), "B")


@hostile(LINK)
def external_link_of_a_group(file: h5py.File, folder: Path) -> None:
    del file["RNN_0"]
    file["RNN_0"] = h5py.ExternalLink(str(other_file(folder)), "/")


@hostile(LINK)
def soft_link(file: h5py.File, folder: Path) -> None:
    file["elsewhere"] = file[NAME][()]
    del file[NAME]
    file[NAME] = h5py.SoftLink("/elsewhere")


@hostile(LINK)
def soft_link_to_itself(file: h5py.File, folder: Path) -> None:
    del file[NAME]
    file[NAME] = h5py.SoftLink(f"/{NAME}")


@hostile(ELSEWHERE)
def virtual_dataset(file: h5py.File, folder: Path) -> None:
    del file[NAME]
    layout = h5py.VirtualLayout(shape=(40,), dtype="f4")
    layout[:] = h5py.VirtualSource(str(other_file(folder)), "B", shape=(40,))
    file.create_virtual_dataset(NAME, layout)


def endless_virtual_dataset(file: h5py.File, name: str, folder: Path) -> None:
    """Its shape is that of a dataset in a pipe: who asks for it waits for ever. So it is not among `HOSTILE`."""
    os.mkfifo(folder / "pipe")
    rows = h5s.create_simple((1,), (h5s.UNLIMITED,))
    rows.select_hyperslab((0,), (h5s.UNLIMITED,))
    plist = h5p.create(h5p.DATASET_CREATE)
    plist.set_virtual(rows, os.fsencode(folder / "pipe"), b"B", rows)
    del file[name]
    h5d.create(file.id, name.encode(), h5t.IEEE_F32LE, h5s.create_simple((40,), (h5s.UNLIMITED,)), plist)


@hostile(ELSEWHERE)
def external_storage(file: h5py.File, folder: Path) -> None:
    (folder / "secret").write_bytes(bytes(160))
    del file[NAME]
    file.create_dataset(NAME, (40,), "f4", external=[(str(folder / "secret"), 0, 160)])


@hostile("is no dataset, must be a float dataset")
def committed_type(file: h5py.File, folder: Path) -> None:
    del file[NAME]
    file[NAME] = np.dtype("f4")


@hostile("has dtype object, must be float16")
def object_references(file: h5py.File, folder: Path) -> None:
    del file[NAME]
    file.create_dataset(NAME, data=np.array([file["CNN"].ref] * 40, h5py.ref_dtype), dtype=h5py.ref_dtype)


@hostile("has dtype object, must be float16")
def region_references(file: h5py.File, folder: Path) -> None:
    region = file["char_embed"].regionref[0:1]
    del file[NAME]
    file.create_dataset(NAME, data=np.array([region] * 40, h5py.regionref_dtype), dtype=h5py.regionref_dtype)


@hostile("has dtype object, must be float16")
def variable_length_numbers(file: h5py.File, folder: Path) -> None:
    del file[NAME]
    file.create_dataset(NAME, (40,), h5py.vlen_dtype(np.float32))[0] = np.zeros(10**5, np.float32)


@hostile("has dtype unknown, must be float16")
def deeply_nested_type(file: h5py.File, folder: Path) -> None:
    del file[NAME]
    kind = h5t.IEEE_F32LE
    for _ in range(500):
        outer = h5t.create(h5t.COMPOUND, kind.get_size())
        outer.insert(b"x", 0, kind)
        kind = outer
    h5d.create(file.id, NAME.encode(), kind, h5s.create_simple((40,)))


@hostile("has shape (2748779069440,), must be (40,)")
def ten_terabytes(file: h5py.File, folder: Path) -> None:
    del file[NAME]
    file.create_dataset(NAME, (10 * 2**40 // 4,), "f4", chunks=(1 << 20,))


@hostile("claims 160 bytes, of which 0 are there")
def never_written(file: h5py.File, folder: Path) -> None:
    del file[NAME]
    file.create_dataset(NAME, (40,), "f4")


@hostile("has 1 of its 4 chunks, the others were never written")
def written_in_part(file: h5py.File, folder: Path) -> None:
    del file[NAME]
    file.create_dataset(NAME, (40,), "f4", chunks=(10,), compression="gzip")[:10] = 1


@hostile("is read in pieces of 4294967292")
def a_chunk_as_large_as_can_be(file: h5py.File, folder: Path) -> None:
    del file[NAME]
    plist = h5p.create(h5p.DATASET_CREATE)
    plist.set_chunk((2**30 - 1,))
    plist.set_deflate(9)
    space = h5s.create_simple((40,), (h5s.UNLIMITED,))
    dataset = h5d.create(file.id, NAME.encode(), h5t.IEEE_F32LE, space, plist)
    dataset.write_direct_chunk((0,), zlib.compress(bytes(4096)))


@hostile("filter number 305")
def unknown_filter(file: h5py.File, folder: Path) -> None:
    _filtered(file, lambda plist: plist.set_filter(305, 1))


@hostile("filter number 6")
def scale_offset_filter(file: h5py.File, folder: Path) -> None:
    del file[NAME]
    file.create_dataset(NAME, data=np.zeros(40, np.float32), chunks=(40,), scaleoffset=2)


@hostile("is compressed several times over")
def compressed_twice(file: h5py.File, folder: Path) -> None:
    _filtered(file, lambda plist: (plist.set_deflate(9), plist.set_deflate(9)))


@hostile("its filters in an order that makes no sense")
def shuffled_after_compression(file: h5py.File, folder: Path) -> None:
    _filtered(file, lambda plist: (plist.set_deflate(9), plist.set_shuffle()))


@hostile("is a group, must be a float dataset")
def cycle_of_groups(file: h5py.File, folder: Path) -> None:
    del file[NAME]
    file[NAME] = file["RNN_0"]


@hostile("has a chunk out of which more than the 160 bytes come that belong there")
def chunk_that_is_a_bomb(file: h5py.File, folder: Path) -> None:
    _filtered(file, lambda plist: plist.set_deflate(9), zlib.compress(bytes(3 << 20)))


@hostile("has a chunk of 65000 bytes, where 160 belong")
def chunk_that_is_too_long(file: h5py.File, folder: Path) -> None:
    _filtered(file, lambda plist: plist.set_deflate(9), bytes(65000))


def _filtered(file: h5py.File, change: Callable[[h5p.PropDCID], object], chunk: bytes = b"x") -> None:
    """A dataset of some filters."""
    del file[NAME]
    plist = h5p.create(h5p.DATASET_CREATE)
    plist.set_chunk((40,))
    change(plist)
    dataset = h5d.create(file.id, NAME.encode(), h5t.IEEE_F32LE, h5s.create_simple((40,)), plist)
    dataset.write_direct_chunk((0,), chunk)
