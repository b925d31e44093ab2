"""HDF5 files from strangers: what is refused of a dataset before its data are read, and before memory is taken.

A fault is the end of a sentence that begins with the dataset, such as "has its data in another file, which is not
read". HDF5 itself follows links to other files, loads plugins for filters that it does not know, allocates what a
dataset claims, and unpacks a chunk however much comes out of it.
"""

from __future__ import annotations

import itertools
import math
import zlib
from collections import Counter
from typing import Any

import numpy as np
from h5py import h5d, h5g, h5l, h5p, h5z

MAGIC = b"\x89HDF\r\n\x1a\n"
COMPRESSIONS = {h5z.FILTER_DEFLATE: "gzip", h5z.FILTER_LZF: "lzf"}
SAME_SIZE = {h5z.FILTER_FLETCHER32, h5z.FILTER_SHUFFLE}
# More than any of these compressions can save: deflate ends at 1032.
MAX_COMPRESSION = 1100
# A chunk is read as a whole, and may be larger than its dataset.
SMALL_CHUNK_BYTES = 1 << 20


def link_fault(group: h5g.GroupID, name: bytes) -> str | None:
    """What is wrong with a member of a group that is there: only hard links are followed."""
    if group.links.get_info(name).type == h5l.TYPE_HARD:
        return None
    return "is a link to somewhere else, which is not followed"


def location_fault(plist: h5p.PropDCID) -> str | None:
    """What is wrong with where the data of a dataset are: they must be in this very file.

    To be asked before the dataset's shape: to tell that of a virtual one, HDF5 opens the other file, or waits for ever
    for a pipe.
    """
    if plist.get_layout() == h5d.VIRTUAL or plist.get_external_count():
        return "has its data in another file, which is not read"
    return None


def storage_fault(
    dataset: h5d.DatasetID, plist: h5p.PropDCID, file_size: int, shape: tuple[int, ...], dtype: np.dtype
) -> str | None:
    """What is wrong with how the data of a dataset without a `location_fault` are stored: they must all be there."""
    filters = [plist.get_filter(number)[0] for number in range(plist.get_nfilters())]
    fault = _filter_fault(filters) if filters else None
    if fault:
        return fault
    size, stored = math.prod(shape) * dtype.itemsize, dataset.get_storage_size()
    there = min(stored, file_size)
    if size > there * (1 if SAME_SIZE.issuperset(filters) else MAX_COMPRESSION):
        return f"claims {size} bytes, of which {there} are there"
    if plist.get_layout() == h5d.CHUNKED:
        chunk = plist.get_chunk()
        chunk_bytes = math.prod(chunk) * dtype.itemsize
        if chunk_bytes > max(SMALL_CHUNK_BYTES, 4 * size):
            return f"claims {size} bytes, and is read in pieces of {chunk_bytes}"
        wanted = math.prod(-(-length // step) for length, step in zip(shape, chunk, strict=True))
        found = dataset.get_num_chunks() if wanted else 0
        if found != wanted:  # HDF5 reads the others as zeros
            return f"has {found} of its {wanted} chunks, the others were never written"
    return None


def _filter_fault(filters: list[int]) -> str | None:
    """HDF5 is never asked whether it has a filter: it would look for a plugin, and run it."""
    unknown = [number for number in filters if number not in COMPRESSIONS and number not in SAME_SIZE]
    if unknown:
        return (
            f"went through HDF5's filter number {unknown[0]}, and only gzip, lzf, shuffle and fletcher32 are undone "
            "here. `h5repack -f NONE INPUT OUTPUT` takes filters off"
        )
    compressions = COMPRESSIONS.keys() & filters
    if max(Counter(filters).values()) > 1 or len(compressions) > 1:
        return "is compressed several times over"
    for compression in compressions:
        if filters[filters.index(compression) + 1 :] not in ([], [h5z.FILTER_FLETCHER32]):
            return "has its filters in an order that makes no sense"
    return None


class Chunks:
    """Finds chunks out of which more would come than the dataset has room for: HDF5 would unpack all of it.

    Args:
        dataset: one without a `storage_fault`.
        dtype: of the dataset.

    Attributes:
        are_compressed: whether there can be such chunks.
        shape: of a chunk, then.
    """

    def __init__(self, dataset: h5d.DatasetID, dtype: np.dtype) -> None:
        plist = dataset.get_create_plist()
        filters = [plist.get_filter(number)[0] for number in range(plist.get_nfilters())]
        places = [place for place, number in enumerate(filters) if number in COMPRESSIONS]
        self.are_compressed = bool(places)
        if not places:
            return
        self._dataset, self._sound = dataset, set[int]()
        self.shape: tuple[int, ...] = plist.get_chunk()
        self._place, self._is_gzip = places[0], filters[places[0]] == h5z.FILTER_DEFLATE
        checksums = [4 * (number == h5z.FILTER_FLETCHER32) for number in filters]
        self._size = math.prod(self.shape) * dtype.itemsize + sum(checksums[: self._place])
        self._behind = sum(checksums[self._place :])

    def fault(self, start: int = 0, stop: int | None = None) -> str | None:
        """What is wrong with the chunks of some rows, by default of all. Those that were sound are not read again."""
        if not self.are_compressed or not all(self._dataset.shape):
            return None
        rows, *others = (range(0, size, step) for size, step in zip(self._dataset.shape, self.shape, strict=True))
        for row in rows[start // self.shape[0] : None if stop is None else -(-stop // self.shape[0])]:
            if row in self._sound:
                continue
            for offset in itertools.product([row], *others):
                info = self._dataset.get_chunk_info_by_coord(offset)
                if info.byte_offset is not None and (fault := self._fault(offset, info)):
                    return fault
            self._sound.add(row)
        return None

    def _fault(self, offset: tuple[int, ...], info: Any) -> str | None:
        # No compression makes more of it than a little. Before reading: h5py would take that much memory.
        if info.size > self._size + self._size // 64 + 4096:
            return f"has a chunk of {info.size} bytes, where {self._size} belong"
        if info.filter_mask >> self._place & 1 or not self._is_gzip:  # lzf, which ends at 88 times the chunk
            return None
        _, stored = self._dataset.read_direct_chunk(offset)
        unpacker = zlib.decompressobj()
        size = 0
        try:
            # In pieces: what comes out is thrown away.
            stored = stored[: len(stored) - self._behind]
            while stored and size <= self._size:
                size += len(unpacker.decompress(stored, 1 << 16))
                stored = unpacker.unconsumed_tail
        except zlib.error:  # damage: HDF5 will say so
            return None
        return (
            f"has a chunk out of which more than the {self._size} bytes come that belong there"
            if size > self._size
            else None
        )
