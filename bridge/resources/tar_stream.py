"""A tar archive from a stranger, as a stream that ends where an honest one would have."""

from __future__ import annotations

import bz2
import gzip
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Self

MAX_HEADER_BYTES = 1 << 20
# Headers that tarfile reads as a whole, whatever size they claim: names and attributes of the next member.
EXTENDED = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)


class ArchiveError(Exception):
    """What is wrong with an archive or its member."""


class _Header(tarfile.TarInfo):
    """A header that takes no memory to speak of. Maps of sparse files may be as long as the archive unpacks to."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        header = super().frombuf(buf, encoding, errors)
        if header.type in EXTENDED and header.size > MAX_HEADER_BYTES:
            raise ArchiveError(f"the archive has a header that claims {header.size} bytes")
        if header.type == tarfile.GNUTYPE_SPARSE:
            raise _sparse(header)
        return header

    def _proc_gnusparse_10(self, next: tarfile.TarInfo, *_: Any) -> None:
        # What is not public is overridden, as nothing public is asked before the map is read.
        raise _sparse(next)


def _sparse(header: tarfile.TarInfo) -> ArchiveError:
    return ArchiveError(f"{header.name!r:.120} is a sparse file, and only regular files are read. Unpack it yourself")


class _Bounded:
    """Reads no more than `limit` bytes of a file."""

    def __init__(self, file: IO[bytes], limit: int) -> None:
        self._file, self._limit, self._left = file, limit, limit

    def read(self, size: int) -> bytes:
        block = self._file.read(size)
        self._left -= len(block)
        if self._left < 0:
            raise ArchiveError(
                f"the archive unpacks to more than {self._limit} bytes. If you trust it, unpack it yourself"
            )
        return block


@contextmanager
def tar_stream(path: Path, head: bytes, limit: int) -> Iterator[tarfile.TarFile]:
    """Opens a tar archive for reading from its beginning to its end.

    Not by its members' places: to go back in a compressed archive is to unpack it again.

    Args:
        path: the archive.
        head: how it begins.
        limit: the most bytes that it may unpack to.
    """
    openers: dict[bytes, Any] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open}
    unpack: Any = next((opener for magic, opener in openers.items() if head.startswith(magic)), open)
    with (
        unpack(path, "rb") as file,
        tarfile.open(fileobj=_Bounded(file, limit), mode="r|", tarinfo=_Header) as reader,  # type: ignore[call-overload]
    ):
        yield reader
