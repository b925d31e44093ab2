"""Text of any length in an HDF5 file, read without HDF5, which walks through a damaged heap for ever: `read_text`."""

from __future__ import annotations

import os
import struct

import h5py
from h5py import h5d

# A dataset has the length of a text, and where it is: the heap's address and the text's number in it.
REFERENCE = struct.Struct("<IQI")
# A heap begins with its size; a text with its number, how often it is referred to, and its size.
HEAP, TEXT = struct.Struct("<4sB3xQ"), struct.Struct("<HH4xQ")
# A text's number has 16 bits.
MAX_TEXTS = 1 << 16


def read_text(file: h5py.File, dataset: h5d.DatasetID) -> bytes:
    """Reads the one text of a dataset of variable-length strings.

    Args:
        file: open for reading.
        dataset: of the file, not compressed, as h5py makes it.

    Raises:
        ValueError: there is no such text, or the file's heap of texts is damaged.
    """
    plist = file.id.get_create_plist()
    offset = dataset.get_offset()
    if offset is None or dataset.shape != (1,) or plist.get_sizes() != (8, 8):
        raise ValueError("it is not one text in a row of one, not compressed")
    descriptor = file.id.get_vfd_handle()
    length, address, wanted = REFERENCE.unpack(_read(descriptor, offset, REFERENCE.size))
    address += plist.get_userblock()
    magic, version, end = HEAP.unpack(_read(descriptor, address, HEAP.size))
    if (magic, version) != (b"GCOL", 1):
        raise ValueError(f"no heap of texts is at {address}")
    place, end = address + HEAP.size, address + end
    for _ in range(MAX_TEXTS):
        if place + TEXT.size > end:
            break
        number, _, size = TEXT.unpack(_read(descriptor, place, TEXT.size))
        if number == 0:  # the rest is free
            break
        if number == wanted and length <= size <= end - place - TEXT.size:
            return _read(descriptor, place + TEXT.size, length)
        place += TEXT.size + (size + 7) // 8 * 8
    raise ValueError(f"the heap of texts at {address} has no text {wanted} of {length} bytes")


def _read(descriptor: int, place: int, size: int) -> bytes:
    # First: a size is what the file claims, and of a place beyond 2^63 no file can be asked.
    if place + size > os.fstat(descriptor).st_size:
        raise ValueError("it is beyond the end of the file")
    parts: list[bytes] = []
    while size and (part := os.pread(descriptor, min(size, 1 << 30), place)):
        parts.append(part)
        place, size = place + len(part), size - len(part)
    if size:  # cut meanwhile
        raise ValueError("it is beyond the end of the file")
    return b"".join(parts)
