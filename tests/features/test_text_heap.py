"""Text of any length: the heap is read as HDF5 reads it, and a damaged one is an error."""

from pathlib import Path
from typing import Any

import h5py
import pytest

from bridge.features.text_heap import HEAP, TEXT, read_text

TEXTS = {"some": "the cat", "other": "é" * 100_000, "none": "", "json": '{"a": "0"}'}


@pytest.mark.parametrize(
    "arguments", [{}, {"libver": "latest"}, {"libver": ("v110", "v110")}, {"userblock_size": 512}], ids=str
)
def test_it_reads_what_hdf5_reads(arguments: dict[str, Any], tmp_path: Path) -> None:
    with h5py.File(tmp_path / "f.hdf5", "w", **arguments) as file:
        for name, text in TEXTS.items():
            file.create_dataset(name, (1,), h5py.string_dtype(), data=[text])
    with h5py.File(tmp_path / "f.hdf5") as file:
        for name, text in TEXTS.items():
            assert read_text(file, file[name].id).decode() == text == file[name].asstr()[0]


@pytest.mark.parametrize(
    ("start", "stop"),
    [(0, 4), (4, 5), (8, 16), (16, 18), (16, 48), (24, 32)],
    ids=["magic", "version", "end", "number", "all", "size"],
)
def test_a_damaged_heap_is_an_error(start: int, stop: int, tmp_path: Path) -> None:
    """HDF5 walks for ever through one with objects of no size."""
    path = tmp_path / "f.hdf5"
    with h5py.File(path, "w") as file:
        file.create_dataset("text", (1,), h5py.string_dtype(), data=["the cat"])
    data = bytearray(path.read_bytes())
    heap = data.find(b"GCOL")
    data[heap + start : heap + stop] = bytes(stop - start)
    path.write_bytes(data)
    with h5py.File(path) as file, pytest.raises(ValueError, match="heap of texts"):
        read_text(file, file["text"].id)


@pytest.mark.parametrize("others", [(1 << 16) - 2, 1 << 16])
def test_more_texts_than_have_numbers(others: int, tmp_path: Path) -> None:
    """They end with number 65535: one that comes later is not looked for, for minutes in a large file."""
    path = tmp_path / "f.hdf5"
    with h5py.File(path, "w") as file:
        file.create_dataset("text", (1,), h5py.string_dtype(), data=["the cat"])
        offset = file["text"].id.get_offset()
    data = bytearray(path.read_bytes())
    texts = TEXT.pack(2, 1, 0) * others + TEXT.pack(1, 1, 7) + b"the cat\0"
    data[offset + 4 : offset + 12] = len(data).to_bytes(8, "little")
    path.write_bytes(data + HEAP.pack(b"GCOL", 1, HEAP.size + len(texts)) + texts)
    with h5py.File(path) as file:
        if others < 1 << 16:
            assert read_text(file, file["text"].id) == b"the cat"
        else:
            with pytest.raises(ValueError, match="has no text 1 of 7 bytes"):
                read_text(file, file["text"].id)


def test_a_text_beyond_the_end(tmp_path: Path) -> None:
    path = tmp_path / "f.hdf5"
    with h5py.File(path, "w") as file:
        file.create_dataset("text", (1,), h5py.string_dtype(), data=["the cat"])
        offset = file["text"].id.get_offset()
    data = bytearray(path.read_bytes())
    for address in (len(data), 2**64 - 1):
        data[offset + 4 : offset + 12] = address.to_bytes(8, "little")
        path.write_bytes(data)
        with h5py.File(path) as file, pytest.raises(ValueError, match="beyond the end of the file"):
            read_text(file, file["text"].id)


@pytest.mark.parametrize("arguments", [{"chunks": (1,)}, {"shape": (2,)}, {"shape": ()}], ids=str)
def test_other_datasets_are_an_error(arguments: dict[str, Any], tmp_path: Path) -> None:
    with h5py.File(tmp_path / "f.hdf5", "w") as file:
        dataset = file.create_dataset("text", dtype=h5py.string_dtype(), **{"shape": (1,), **arguments})
        with pytest.raises(ValueError, match="one text in a row of one"):
            read_text(file, dataset.id)
