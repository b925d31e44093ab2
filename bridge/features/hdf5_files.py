"""What both layouts of HDF5 feature files share: opening, checking and describing damage."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

import h5py
import numpy as np
from h5py import h5a, h5d, h5f, h5fd, h5p, h5s, h5t, h5z

from bridge.errors import FeatureStoreError, ResourceNotFoundError
from bridge.untrusted_hdf5 import MAGIC, Chunks, link_fault, location_fault, storage_fault

Compression = Literal["gzip", "lzf"]

# A chunk is read and written as a whole. HDF5's own limit is 4 GiB.
MAX_CHUNK_BYTES = 1 << 29

# What people have in place of a feature file, by how it begins.
LOOKALIKES = {
    b"PAR1": "a Parquet file. Turn it into HDF5 first: `elmo-bridge convert INPUT OUTPUT.hdf5`.",
    MAGIC: "a damaged or incomplete HDF5 file. Make it again.",
    b"version https://git-lfs": "a Git LFS pointer. Run `git lfs pull`.",
    b"": "no HDF5 file, or a damaged one. Name one that `elmo-bridge embed` or AllenNLP's `elmo` command made.",
}


@contextmanager
def damage(path: str, place: str) -> Iterator[None]:
    """Turns whatever h5py raises for a damaged file into a FeatureStoreError that names the place."""
    try:
        yield
    except (FeatureStoreError, MemoryError):
        raise
    except Exception as error:  # h5py raises OSError, KeyError, RuntimeError, TypeError, UnicodeDecodeError ...
        raise unusable(path, place, f"can't be read ({error})") from error


def unusable(path: str, place: str, fault: str) -> FeatureStoreError:
    """The error for a damaged file."""
    return FeatureStoreError(
        f"A feature file must be whole, as it was written. Received: {path!r}, in which {place} {fault}. Make the "
        "file again, or take a copy that is whole."
    )


def open_for_reading(path: str) -> h5py.File:
    """Opens a feature file.

    Raises:
        ResourceNotFoundError: it is not there.
        FeatureStoreError: it is no HDF5 file, or a damaged one.
        OSError: it can't be read, for example as permissions don't allow it.
    """
    if os.path.isdir(path):
        raise FeatureStoreError(
            f"A feature file must be an HDF5 file. Received: {path!r}, a folder. If it holds shards of Parquet, turn "
            "them into one HDF5 file: `elmo-bridge convert FOLDER OUTPUT.hdf5`."
        )
    try:
        return h5py.File(path, "r")
    except (PermissionError, BlockingIOError):  # the latter: another program writes it
        raise
    except Exception as error:  # see `damage`
        if not os.path.exists(path):  # of some such paths h5py says something else
            raise ResourceNotFoundError(f"The feature file must be there. Received: {path!r}, which is not.") from error
        with open(path, "rb") as raw:
            head = raw.read(64)
        kind = next(text for magic, text in LOOKALIKES.items() if head.startswith(magic))
        raise FeatureStoreError(
            f"A feature file must be an HDF5 file. Received: {path!r}, which looks like {kind} ({error})"
        ) from error


def create_file(file: Any) -> h5py.File:
    """Begins an HDF5 file in an open file of Python's.

    Of the oldest format in which all that HDF5 keeps beside the data has checksums; the data have them by `fletcher32`.
    The root knows in which order its datasets were made, and not when: the same features give the same bytes.
    """
    access = h5p.create(h5p.FILE_ACCESS)
    access.set_fileobj_driver(h5fd.fileobj_driver, file)
    access.set_libver_bounds(h5f.LIBVER_V110, h5f.LIBVER_V110)
    access.set_fclose_degree(h5f.CLOSE_STRONG)
    creation = h5p.create(h5p.FILE_CREATE)
    creation.set_link_creation_order(h5p.CRT_ORDER_TRACKED | h5p.CRT_ORDER_INDEXED)
    creation.set_obj_track_times(False)
    return h5py.File(h5f.create(b"features", h5f.ACC_TRUNC, creation, access))


class Stored(NamedTuple):
    """An open dataset. h5py takes as long to tell these of it as to read a sentence."""

    dataset: h5d.DatasetID
    shape: tuple[int, ...]
    dtype: np.dtype


def open_dataset(file: h5py.File, name: bytes, path: str, place: str, access: h5p.PropDAID | None = None) -> Stored:
    """Opens a dataset of the file's root, the data of which are in this very file, and all of them.

    Raises:
        FeatureStoreError: it is missing or damaged, holds its data elsewhere, or claims more than the file has.
    """
    with damage(path, place):
        root = file.id
        try:
            fault = link_fault(root, name)
        except Exception as error:
            if root.links.exists(name):
                raise
            raise unusable(path, place, "is missing") from error
        if fault:
            raise unusable(path, place, fault)
        dataset = h5d.open(root, name, access)
        plist = dataset.get_create_plist()
        fault = location_fault(plist)
        if fault:
            raise unusable(path, place, fault)
        shape, dtype = dataset.shape, dataset.dtype
        fault = storage_fault(dataset, plist, root.get_filesize(), shape, dtype)
        if fault:
            raise unusable(path, place, fault)
        return Stored(dataset, shape, dtype)


def check_chunks(stored: Stored, path: str, place: str) -> None:
    """Looks into every chunk of a dataset before HDF5 unpacks it.

    Raises:
        FeatureStoreError: more would come out of one than belongs there.
    """
    fault = Chunks(stored.dataset, stored.dtype).fault()
    if fault:
        raise unusable(path, place, fault)


def read_all(stored: Stored) -> np.ndarray:
    """The whole of a dataset."""
    values = np.empty(stored.shape, dtype=stored.dtype)
    if values.size:
        stored.dataset.read(h5s.ALL, h5s.ALL, values)
    return values


def creation_plist(chunk: tuple[int, ...], compression: Compression | None) -> h5p.PropDCID:
    """How a dataset is stored: in checksummed chunks, without the time, so that the same data give the same file."""
    plist = h5p.create(h5p.DATASET_CREATE)
    plist.set_obj_track_times(False)
    if all(chunk):  # nothing has no chunks
        plist.set_chunk(chunk)
        plist.set_fill_time(h5d.FILL_TIME_NEVER)
        if compression is not None:
            plist.set_shuffle()
        if compression == "gzip":
            plist.set_deflate(1)
        elif compression == "lzf":
            plist.set_filter(h5z.FILTER_LZF, h5z.FLAG_OPTIONAL)
        plist.set_fletcher32()
    return plist


def write_dataset(file: h5py.File, name: bytes, values: np.ndarray, chunk: tuple[int, ...]) -> None:
    """Writes a dataset as a whole."""
    dataset = h5d.create(
        file.id, name, h5t.py_create(values.dtype), h5s.create_simple(values.shape), creation_plist(chunk, None)
    )
    if values.size:
        dataset.write(h5s.ALL, h5s.ALL, values)


def write_attribute(file: h5py.File, name: str, value: str | np.ndarray) -> None:
    """Writes an attribute of the root. Text is of a fixed length: HDF5 has no checksum of strings of any length."""
    file.attrs[name] = np.bytes_(value.encode()) if isinstance(value, str) else value


def read_text_attribute(file: h5py.File, name: str, path: str) -> str | None:
    """Reads text that `write_attribute` has written; None where there is none."""
    value = read_attribute(file, name, path)
    if value is None:
        return None
    with damage(path, f"the attribute {name!r}"):
        return value.tobytes().rstrip(b"\0").decode()


def read_attribute(file: h5py.File, name: str, path: str) -> np.ndarray | None:
    """Reads an attribute of the root of plain numbers or bytes; None where there is none."""
    with damage(path, f"the attribute {name!r}"):
        if not h5a.exists(file.id, name.encode()):
            return None
        attribute = h5a.open(file.id, name.encode())
        size = math.prod(attribute.shape) * attribute.dtype.itemsize
        if attribute.dtype.kind not in "iuS" or size > os.path.getsize(path):
            raise unusable(path, f"the attribute {name!r}", f"claims {size} bytes of the type {attribute.dtype}")
        values = np.empty(attribute.shape, dtype=attribute.dtype)
        if values.size:
            attribute.read(values)
        return values
