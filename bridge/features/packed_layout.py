"""The HDF5 layout that is quick to read: all tokens in one dataset, one sentence after the other.

| name | what it is |
|---|---|
| `features` | `(tokens, *token_shape)`, in chunks of about 256 KiB |
| `offsets` | int64 `(sentences + 1,)`: sentence `i` has the tokens `offsets[i]` to `offsets[i + 1]` |
| `sentences` | uint8 `(bytes,)`: the sentences as UTF-8; empty where it is not known. May be left out |
| `sentence_offsets` | int64 `(sentences + 1,)`, likewise |
| attribute `elmo_bridge` | the JSON of `FeatureMetadata` |
| attribute `layout` | `"packed"` |
"""

from __future__ import annotations

import math
from array import array
from functools import cached_property

import h5py
import numpy as np
from h5py import h5d, h5p, h5s, h5t

from bridge.features.hdf5_files import (
    Compression,
    Stored,
    check_chunks,
    creation_plist,
    damage,
    open_dataset,
    read_all,
    unusable,
    write_attribute,
    write_dataset,
)
from bridge.features.metadata import FeatureMetadata
from bridge.features.uninterrupted import uninterrupted
from bridge.untrusted_hdf5 import Chunks

CHUNK_BYTES = 1 << 18
# Written at once: HDF5's cost of a write is that of several chunks.
BUFFERED_CHUNKS = 16


class PackedLayoutWriter:
    """Writes this layout, in constant memory but for 16 bytes a sentence.

    Args:
        file: open for writing.
        metadata: of the features.
        compression: of the features.
        forget_sentences: leave the sentences out.
    """

    def __init__(
        self, file: h5py.File, metadata: FeatureMetadata, compression: Compression | None, forget_sentences: bool
    ) -> None:
        self._file = file
        dtype = np.dtype(metadata.dtype).newbyteorder("<")
        self._features = _GrowingDataset(file, b"features", dtype, metadata.token_shape, compression)
        self._offsets = array("q", [0])
        self._text = None if forget_sentences else _GrowingDataset(file, b"sentences", np.dtype("u1"), (), None)
        self._text_offsets = array("q", [0])

    def append(self, features: np.ndarray, sentence: str | None) -> None:
        """Takes a sentence: `(timesteps, *token_shape)` in the dtype of the file."""
        self._features.append(features)
        self._offsets.append(self._features.rows)
        if self._text is not None:
            self._text.append(np.frombuffer((sentence or "").encode("utf-8", "surrogatepass"), dtype=np.uint8))
            self._text_offsets.append(self._text.rows)

    def close(self) -> None:
        """Writes what comes after the last sentence."""
        write_attribute(self._file, "layout", "packed")
        self._features.close()
        self._write_offsets(b"offsets", self._offsets)
        if self._text is not None:
            self._text.close()
            self._write_offsets(b"sentence_offsets", self._text_offsets)

    def _write_offsets(self, name: bytes, offsets: array[int]) -> None:
        values = np.frombuffer(offsets, dtype=np.int64).astype("<i8", copy=False)
        write_dataset(self._file, name, values, (min(len(values), CHUNK_BYTES // 8),))


class _GrowingDataset:
    """A dataset that rows are appended to, and that is written in whole chunks."""

    def __init__(
        self,
        file: h5py.File,
        name: bytes,
        dtype: np.dtype,
        row_shape: tuple[int, ...],
        compression: Compression | None,
    ) -> None:
        self.rows = 0
        self._file, self._name, self._compression = file, name, compression
        self._chunk_rows = max(1, CHUNK_BYTES // (dtype.itemsize * math.prod(row_shape)))
        self._buffer = np.empty((self._chunk_rows * BUFFERED_CHUNKS, *row_shape), dtype=dtype)
        self._buffered = 0
        self._dataset: h5d.DatasetID | None = None

    def append(self, rows: np.ndarray) -> None:
        while len(rows):
            part, rows = np.split(rows, [len(self._buffer) - self._buffered])
            self._buffer[self._buffered : self._buffered + len(part)] = part
            self._buffered += len(part)
            self.rows += len(part)
            if self._buffered == len(self._buffer):
                uninterrupted(self._write)

    def close(self) -> None:
        if self._buffered or self._dataset is None:
            self._write()

    def _write(self) -> None:
        if self._dataset is None:
            self._dataset = self._create()
        row_shape = self._buffer.shape[1:]
        self._dataset.set_extent((self.rows, *row_shape))
        if self._buffered:
            count = (self._buffered, *row_shape)
            target = self._dataset.get_space()
            target.select_hyperslab((self.rows - self._buffered, *(0 for _ in row_shape)), count)
            self._dataset.write(h5s.create_simple(count), target, self._buffer[: self._buffered])
        self._buffered = 0

    def _create(self) -> h5d.DatasetID:
        row_shape = self._buffer.shape[1:]
        # A chunk is stored whole: a small file need not have a large one.
        chunk_rows = min(self._chunk_rows, max(1, self._buffered))
        plist = creation_plist((chunk_rows, *row_shape), self._compression)
        space = h5s.create_simple((0, *row_shape), (h5s.UNLIMITED, *row_shape))
        return h5d.create(self._file.id, self._name, h5t.py_create(self._buffer.dtype), space, plist)


class PackedLayoutReader:
    """Reads this layout.

    Args:
        file: open for reading.
        path: how messages call it.
        metadata: what the file says of itself.

    Attributes:
        dtype: of the features in the file.
        token_shape: of one token's.

    Raises:
        FeatureStoreError: the file is damaged.
    """

    def __init__(self, file: h5py.File, path: str, metadata: FeatureMetadata) -> None:
        self._file, self._path = file, path
        self.dtype, self.token_shape = np.dtype(metadata.dtype), metadata.token_shape
        self._features = self._open_features(metadata)
        self._offsets = self._read_offsets("offsets", metadata.sentences, metadata.tokens)

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def lengths(self, start: int, stop: int) -> np.ndarray:
        """Timesteps of some sentences, int64."""
        return np.diff(self._offsets[start : stop + 1])

    def read(self, start: int, stop: int) -> np.ndarray:
        """Features of some sentences, one after the other: `(tokens, *token_shape)` in the file's dtype."""
        return self._features.read(self._offsets[start], self._offsets[stop])

    @property
    def has_sentences(self) -> bool:
        """Whether the file has sentences."""
        return "sentences" in self._file

    def sentence(self, index: int) -> str | None:
        """A sentence; None where the file does not have it."""
        if self._text is None:
            return None
        rows, offsets = self._text
        start, stop = offsets[index], offsets[index + 1]
        if start == stop and self._offsets[index] != self._offsets[index + 1]:
            return None
        with damage(self._path, "the dataset 'sentences'"):
            return rows.read(start, stop).tobytes().decode("utf-8", "surrogatepass")

    def _open_features(self, metadata: FeatureMetadata) -> _Rows:
        access = h5p.create(h5p.DATASET_ACCESS)
        chunk_bytes = max(CHUNK_BYTES, self.dtype.itemsize * math.prod(self.token_shape))
        # A sentence begins in the chunk in which the one before ended: that one must not be read twice.
        access.set_chunk_cache(521, 4 * chunk_bytes, 1.0)
        place = "the dataset 'features'"
        stored = open_dataset(self._file, b"features", self._path, place, access)
        wanted = (metadata.tokens, *self.token_shape)
        if stored.shape != wanted or stored.dtype != self.dtype:
            raise unusable(self._path, place, f"{_form(stored)}, where the metadata say {wanted} and {self.dtype}")
        with damage(self._path, place):
            plist = stored.dataset.get_create_plist()
            chunk = plist.get_chunk()
            wanted_chunks = math.prod(-(-size // step) for size, step in zip(wanted, chunk, strict=True))
            chunks = stored.dataset.get_num_chunks() if wanted_chunks else 0
            if chunks != wanted_chunks or math.prod(chunk) * self.dtype.itemsize > chunk_bytes:
                raise unusable(self._path, place, f"has {chunks} chunks of {chunk}, not {wanted_chunks}")
        return _Rows(stored, self._path, "features")

    def _read_offsets(self, name: str, sentences: int, end: int) -> np.ndarray:
        place = f"the dataset {name!r}"
        stored = open_dataset(self._file, name.encode(), self._path, place)
        if stored.shape != (sentences + 1,) or stored.dtype != np.int64:
            raise unusable(self._path, place, f"{_form(stored)}, where {(sentences + 1,)} and int64 fit the metadata")
        with damage(self._path, place):
            check_chunks(stored, self._path, place)
            offsets = read_all(stored)
        if offsets[0] != 0 or offsets[-1] != end or (np.diff(offsets) < 0).any():
            raise unusable(self._path, place, f"does not rise from 0 to {end}")
        return offsets

    @cached_property
    def _text(self) -> tuple[_Rows, np.ndarray] | None:
        if not self.has_sentences:
            return None
        place = "the dataset 'sentences'"
        stored = open_dataset(self._file, b"sentences", self._path, place)
        if len(stored.shape) != 1 or stored.dtype != np.uint8:
            raise unusable(self._path, place, f"{_form(stored)}, where bytes were written")
        offsets = self._read_offsets("sentence_offsets", len(self), stored.shape[0])
        return _Rows(stored, self._path, "sentences"), offsets


class _Rows:
    """Reads rows of a dataset."""

    def __init__(self, stored: Stored, path: str, name: str) -> None:
        self._dataset, shape, self._dtype = stored
        self._row_shape, self._path, self._name = shape[1:], path, name
        self._start = (0,) * len(self._row_shape)
        self._type = h5t.py_create(self._dtype)
        self._chunks = Chunks(self._dataset, self._dtype)

    def read(self, start: int, stop: int) -> np.ndarray:
        place = f"the dataset {self._name!r}, rows {start} to {stop},"
        with damage(self._path, place):
            if fault := self._chunks.fault(int(start), int(stop)):
                raise unusable(self._path, place, fault)
            shape = (int(stop - start), *self._row_shape)
            rows = np.empty(shape, dtype=self._dtype)
            if rows.size:
                space = self._dataset.get_space()
                space.select_hyperslab((int(start), *self._start), shape)
                self._dataset.read(h5s.create_simple(shape), space, rows, self._type)
            return rows


def _form(stored: Stored) -> str:
    return f"has the shape {stored.shape} and the dtype {stored.dtype}"
