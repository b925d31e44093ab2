"""Reading the layout of `bridge.features.elmo_layout`, and files of AllenNLP itself."""

from __future__ import annotations

import json
import os
import zlib
from functools import cached_property

import h5py
import numpy as np
from h5py import h5, h5g, h5s, h5t

from bridge.features.elmo_layout import SENTENCE_TO_INDEX, no_chunk_cache
from bridge.features.hdf5_files import (
    Stored,
    check_chunks,
    damage,
    open_dataset,
    read_attribute,
    read_text_attribute,
    unusable,
)
from bridge.features.keys import decode_key
from bridge.features.metadata import FeatureMetadata
from bridge.features.text_heap import read_text
from bridge.untrusted_hdf5 import MAX_COMPRESSION


class ElmoLayoutReader:
    """Reads a dataset a sentence.

    Args:
        file: open for reading.
        path: how messages call it.
        metadata: what the file says of itself; None for one of AllenNLP's.

    Attributes:
        dtype: of the features in the file, float32 or float16.
        token_shape: of one token's.

    Raises:
        FeatureStoreError: the file is damaged, or holds something else.
    """

    def __init__(self, file: h5py.File, path: str, metadata: FeatureMetadata | None) -> None:
        self._file, self._path, self._metadata = file, path, metadata
        self._access = no_chunk_cache()
        # None where they are the lines' numbers.
        self._names: list[bytes] | None = None
        self._has_sentence_keys = metadata is not None and self._read_keys_attribute() == "sentences"
        with damage(path, "the list of its datasets"):
            if metadata is None:
                names = [name for name in self._listed() if name != SENTENCE_TO_INDEX.encode()]
                self._has_sentence_keys = not all(map(bytes.isdigit, names))
                self._names = names if self._has_sentence_keys else _as_lines(names)
            elif self._has_sentence_keys:
                self._names = self._listed()
            self._length = self._count() if self._names is None else len(self._names)
        self._stored_dtype, self.token_shape = self._form()
        # Others are converted by HDF5 when it reads.
        self.dtype = np.dtype(np.float16 if self._stored_dtype.itemsize == 2 else np.float32)
        self._type = h5t.py_create(self.dtype)
        self._sound = bytearray(self._length)  # 1 for datasets whose chunks were looked at

    def __len__(self) -> int:
        return self._length

    def lengths(self, start: int, stop: int) -> np.ndarray:
        """Timesteps of some sentences, int64."""
        if self._timesteps is None:
            return np.array([self._open(index).shape[-2] for index in range(start, stop)], dtype=np.int64)
        return self._timesteps[start:stop].astype(np.int64)

    def read(self, start: int, stop: int) -> np.ndarray:
        """Features of some sentences, one after the other: `(tokens, *token_shape)` in the file's dtype."""
        ends = np.cumsum(self.lengths(start, stop))
        features = np.empty((int(ends[-1]) if len(ends) else 0, *self.token_shape), dtype=self.dtype)
        done = 0
        for index, end in zip(range(start, stop), ends.tolist(), strict=True):
            stored = self._open(index)
            if stored.shape[-2] != end - done:
                raise unusable(self._path, self._place(index), f"has {stored.shape[-2]} tokens, not {end - done}")
            if end > done:
                self._read(stored, index, features[done:end])
            done = end
        return features

    @property
    def has_sentences(self) -> bool:
        """Whether the file has sentences."""
        return self._has_sentence_keys or SENTENCE_TO_INDEX in self._file

    def sentence(self, index: int) -> str | None:
        """A sentence; None where the file does not have it."""
        if self._has_sentence_keys and self._names is not None:
            with damage(self._path, self._place(index)):
                key = self._names[index].decode("utf-8", "surrogatepass")
            return key if self._metadata is None else decode_key(key)
        return self._sentences[index] if self._sentences else None

    def _read_keys_attribute(self) -> str:
        keys = read_text_attribute(self._file, "keys", self._path)
        if keys not in ("lines", "sentences"):
            raise unusable(self._path, "the attribute 'keys'", "is neither 'lines' nor 'sentences'")
        return keys

    def _listed(self) -> list[bytes]:
        """Names of all datasets in the order in which they were made, where the file knows it."""
        names: list[bytes] = []
        root = h5g.open(self._file.id, b"/")
        is_tracked = root.get_create_plist().get_link_creation_order()
        root.links.iterate(names.append, idx_type=h5.INDEX_CRT_ORDER if is_tracked else h5.INDEX_NAME)
        return names

    def _count(self) -> int:
        count = len(self._file) - (SENTENCE_TO_INDEX in self._file)
        if self._metadata is not None and count != self._metadata.sentences:
            raise unusable(
                self._path, "the metadata", f"say {self._metadata.sentences} sentences, and {count} are there"
            )
        return count

    def _form(self) -> tuple[np.dtype, tuple[int, ...]]:
        if self._metadata is not None:
            return np.dtype(self._metadata.dtype), self._metadata.token_shape
        if not len(self):
            raise unusable(self._path, "no dataset of features", "is there")
        _, shape, dtype = open_dataset(self._file, self._name(0), self._path, self._place(0), self._access)
        if len(shape) not in (2, 3) or dtype.kind != "f":
            raise unusable(
                self._path,
                self._place(0),
                f"has the shape {shape} and the dtype {dtype}, where features are (num_layers, timesteps, output_dim) "
                "or (timesteps, output_dim), and float",
            )
        return dtype, (*shape[:-2], shape[-1])

    @cached_property
    def _timesteps(self) -> np.ndarray | None:
        timesteps = read_attribute(self._file, "timesteps", self._path)
        if timesteps is None or self._metadata is None:
            return None
        checksum = read_attribute(self._file, "timesteps_crc32", self._path)
        if timesteps.dtype.kind == "S":
            raise unusable(self._path, "the attribute 'timesteps'", "is text, where numbers were written")
        tokens = int(timesteps.sum(dtype=np.int64))
        limit = os.path.getsize(self._path) * MAX_COMPRESSION
        if (
            timesteps.shape != (len(self),)
            or checksum is None
            or checksum.shape != ()
            or zlib.crc32(timesteps.tobytes()) != checksum
            or timesteps.min(initial=0) < 0
            or tokens * self.dtype.itemsize * int(np.prod(self.token_shape)) > limit
            or (not self._has_sentence_keys and tokens != self._metadata.tokens)
        ):
            raise unusable(self._path, "the attribute 'timesteps'", "does not fit its checksum, or the sentences")
        return timesteps

    @cached_property
    def _sentences(self) -> list[str | None] | None:
        """All sentences by their place, from `sentence_to_index`."""
        if SENTENCE_TO_INDEX not in self._file:
            return None
        place = f"the dataset {SENTENCE_TO_INDEX!r}"
        stored = open_dataset(self._file, SENTENCE_TO_INDEX.encode(), self._path, place)
        sentences: list[str | None] = [None] * len(self)
        with damage(self._path, place):
            places = None if self._names is None else {name.decode(): number for number, name in enumerate(self._names)}
            check_chunks(stored, self._path, place)
            is_heaped = getattr(h5py.check_string_dtype(stored.dtype), "length", 0) is None
            text = read_text(self._file, stored.dataset) if is_heaped else h5py.Dataset(stored.dataset)[0]
            # Not a dict: of equal sentences it would have the last alone.
            for sentence, line in json.loads(text, object_pairs_hook=list):
                sentences[int(line) if places is None else places[str(line)]] = str(sentence)
        return sentences

    def _name(self, index: int) -> bytes:
        return str(index).encode() if self._names is None else self._names[index]

    def _place(self, index: int) -> str:
        return f"the dataset {self._name(index).decode('utf-8', 'replace')!r:.80}"

    def _open(self, index: int) -> Stored:
        stored = open_dataset(self._file, self._name(index), self._path, self._place(index), self._access)
        shape, dtype = stored.shape, stored.dtype
        if (
            len(shape) <= len(self.token_shape)
            or (*shape[:-2], shape[-1]) != self.token_shape
            or dtype != self._stored_dtype
        ):
            raise unusable(
                self._path,
                self._place(index),
                f"has the shape {shape} and the dtype {dtype}, where those of the file are "
                f"{(*self.token_shape[:-1], 'timesteps', self.token_shape[-1])} and {self._stored_dtype}",
            )
        return stored

    def _read(self, stored: Stored, index: int, features: np.ndarray) -> None:
        """Reads `(timesteps, *token_shape)`; the file has the layers first."""
        with damage(self._path, self._place(index)):
            if not self._sound[index]:
                check_chunks(stored, self._path, self._place(index))
                self._sound[index] = True
            if features.ndim == 2:
                stored.dataset.read(h5s.ALL, h5s.ALL, features, self._type)
                return
            layers_first = np.empty(stored.shape, dtype=self.dtype)
            stored.dataset.read(h5s.ALL, h5s.ALL, layers_first, self._type)
            features[...] = layers_first.transpose(1, 0, 2)


def _as_lines(names: list[bytes]) -> list[bytes] | None:
    """Numbers in their order; None where they are 0, 1, 2, ..."""
    names.sort(key=int)
    return None if names == [b"%d" % number for number in range(len(names))] else names
