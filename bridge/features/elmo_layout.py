"""The HDF5 layout of AllenNLP 0.9's `elmo` command: a dataset a sentence, and `sentence_to_index`.

| name | what it is |
|---|---|
| `"0"`, `"1"`, ... | a dataset a line: `(num_layers, timesteps, output_dim)`, or `(timesteps, output_dim)` |
| `sentence_to_index` | a JSON string, `{sentence: "line"}`. Of equal sentences `json.loads` takes the last |
| attribute `elmo_bridge` | the JSON of `FeatureMetadata` |
| attribute `layout` | `"elmo"` |
| attribute `keys` | `"lines"`, or `"sentences"` where datasets are named by these, see `bridge.features.keys` |
| attribute `timesteps` | the length of every sentence, in the order of the datasets |
| attribute `timesteps_crc32` | of its little-endian int32 |

`sentence_to_index` is left out past a million sentences. With sentence keys an empty sentence has no dataset, and of
equal sentences the first has it. Files of AllenNLP itself have no attributes.

HDF5 keeps no checksum of `sentence_to_index`, as it is a string of any length: damage there may go unseen. Features
don't depend on it.
"""

from __future__ import annotations

import io
import json
import zlib
from array import array
from typing import Any

import h5py
import numpy as np
from h5py import h5d, h5p, h5s, h5t

from bridge.errors import InputValueError
from bridge.features.hdf5_files import MAX_CHUNK_BYTES, Compression, creation_plist, write_attribute
from bridge.features.keys import encode_key
from bridge.features.metadata import FeatureMetadata
from bridge.features.uninterrupted import uninterrupted

SENTENCE_TO_INDEX = "sentence_to_index"
# AllenNLP kept them all in memory, and so does everybody who reads the string.
MAX_REMEMBERED = 1_000_000
MAX_REMEMBERED_BYTES = 1 << 28
# Written together: see `uninterrupted`, which takes as long as writing a sentence.
WAITING_BYTES = 1 << 22
WAITING_SENTENCES = 1024
# Dataset shapes of which HDF5's descriptions are kept for the next sentence of that length.
MAX_SHAPES = 1024


def no_chunk_cache() -> h5p.PropDAID:
    """A dataset is written or read once, as a whole: HDF5's cache of chunks would only copy it."""
    access = h5p.create(h5p.DATASET_ACCESS)
    access.set_chunk_cache(1, 0, 1.0)
    return access


class ElmoLayoutWriter:
    """Writes this layout, a sentence at a time, in constant memory but for `sentence_to_index`.

    Args:
        file: open for writing, with the creation order tracked.
        metadata: of the features.
        compression: of the datasets.
        use_sentence_keys: whether sentences name their datasets, instead of line numbers.
        forget_sentences: leave `sentence_to_index` out.
    """

    def __init__(
        self,
        file: h5py.File,
        metadata: FeatureMetadata,
        compression: Compression | None,
        use_sentence_keys: bool,
        forget_sentences: bool,
    ) -> None:
        self._file = file
        self._compression = compression
        self._use_sentence_keys = use_sentence_keys
        self._all_layers = metadata.layers == "all"
        self._type = h5t.py_create(np.dtype(metadata.dtype).newbyteorder("<"))
        self._memory_type = h5t.py_create(np.dtype(metadata.dtype))
        self._access = no_chunk_cache()
        self._shapes: dict[tuple[int, ...], tuple[Any, Any]] = {}
        self._timesteps = array("i")
        self._waiting: list[tuple[np.ndarray, str | None]] = []
        self._waiting_bytes = 0
        # JSON as it is stored: a dict of as many sentences takes several times the memory.
        self._remembered = None if forget_sentences or use_sentence_keys else io.BytesIO()

    def append(self, features: np.ndarray, sentence: str | None) -> None:
        """Takes a sentence: contiguous `(timesteps, *token_shape)` in the dtype of the file."""
        if self._use_sentence_keys:
            if not len(features):
                return
            if not sentence:
                raise InputValueError(
                    "`sentence` must be given where sentences name their datasets, and must not be empty. Received: "
                    f"{sentence!r} with {len(features)} tokens. Give it, or use `use_sentence_keys=False`."
                )
        # A copy in any case: the caller may go on using the array.
        stored = np.ascontiguousarray(features.transpose(1, 0, 2)) if self._all_layers else features.copy()
        self._waiting.append((stored, sentence))
        self._waiting_bytes += stored.nbytes
        if self._waiting_bytes >= WAITING_BYTES or len(self._waiting) >= WAITING_SENTENCES:
            uninterrupted(self._write_waiting)

    def close(self) -> None:
        """Writes what comes after the last sentence."""
        self._write_waiting()
        timesteps = np.frombuffer(self._timesteps, dtype=np.int32).astype("<i4")
        write_attribute(self._file, "layout", "elmo")
        write_attribute(self._file, "keys", "sentences" if self._use_sentence_keys else "lines")
        write_attribute(self._file, "timesteps", timesteps)
        write_attribute(self._file, "timesteps_crc32", np.array(zlib.crc32(timesteps.tobytes()), dtype="<u4"))
        if self._remembered is not None:
            self._remembered.write(b"}" if self._remembered.tell() else b"{}")
            text, self._remembered = self._remembered.getvalue(), None
            self._file.create_dataset(SENTENCE_TO_INDEX, (1,), h5py.string_dtype(), data=[text], track_times=False)

    def _write_waiting(self) -> None:
        for features, sentence in self._waiting:
            self._write(features, sentence)
        self._waiting, self._waiting_bytes = [], 0

    def _write(self, features: np.ndarray, sentence: str | None) -> None:
        if self._use_sentence_keys and sentence is not None:
            key = encode_key(sentence).encode("utf-8", "surrogatepass")
            if self._file.id.links.exists(key):
                return
        else:
            key = str(len(self._timesteps)).encode()
        plist, space = self._shape(features.shape)
        dataset = h5d.create(self._file.id, key, self._type, space, plist, None, self._access)
        if features.size:
            dataset.write(h5s.ALL, h5s.ALL, features, self._memory_type)
        self._remember(sentence)
        self._timesteps.append(features.shape[-2])

    def _shape(self, shape: tuple[int, ...]) -> tuple[Any, Any]:
        """Creation properties and space of a dataset: making them takes as long as making the dataset."""
        if shape not in self._shapes:
            if len(self._shapes) == MAX_SHAPES:
                self._shapes.clear()
            layers, timesteps, dim = shape if self._all_layers else (1, *shape)
            rows = min(timesteps, max(1, MAX_CHUNK_BYTES // (layers * dim * self._type.get_size())))
            chunk = (layers, rows, dim) if self._all_layers else (rows, dim)
            self._shapes[shape] = creation_plist(chunk, self._compression), h5s.create_simple(shape)
        return self._shapes[shape]

    def _remember(self, sentence: str | None) -> None:
        if self._remembered is None or sentence is None:
            return
        if len(self._timesteps) >= MAX_REMEMBERED or self._remembered.tell() > MAX_REMEMBERED_BYTES:
            self._remembered = None
            return
        start = "," if self._remembered.tell() else "{"
        self._remembered.write(f'{start}{json.dumps(sentence)}:"{len(self._timesteps)}"'.encode())
