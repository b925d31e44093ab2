"""Lines of UTF-8 files and streams, each with its place for error messages."""

from __future__ import annotations

import codecs
import gzip
import os
import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

from bridge.errors import InputValueError, ResourceNotFoundError


class Line(NamedTuple):
    """A line without its end, and where it is, such as `train.tsv, line 12`."""

    place: str
    text: str


def read_lines(source: Any, name: str) -> Iterator[Line]:
    """Decoded lines, one at a time, without a byte order mark. A file that is not there is told at once.

    Args:
        source: a path, unpacked where it ends in `.gz`, or an open binary stream.
        name: what the lines' places call it.

    Raises:
        ResourceNotFoundError: the file cannot be opened.
        InputValueError: it is not gzipped, or not UTF-8.
    """
    if not isinstance(source, str | os.PathLike):
        return _decode(source, name)
    if not os.path.exists(source):
        raise _unreadable(source, "No such file or directory")
    return _read_file(source, name)


def _read_file(source: str | os.PathLike[str], name: str) -> Iterator[Line]:
    try:
        # Both kinds: the second only wraps the first, which closes the file.
        with open(source, "rb") as file:
            if os.fspath(source).lower().endswith(".gz"):
                try:
                    yield from _decode(gzip.GzipFile(fileobj=file), name)
                except (gzip.BadGzipFile, EOFError, zlib.error) as error:
                    raise InputValueError(
                        f"A `.gz` file must be whole and gzipped. Received: {os.fspath(source)!r}: {error}."
                    ) from error
            else:
                yield from _decode(file, name)
    except OSError as error:
        raise _unreadable(source, error.strerror) from error


def _unreadable(source: str | os.PathLike[str], reason: str | None) -> ResourceNotFoundError:
    return ResourceNotFoundError(
        f"The file to read must exist and be readable. Received: {os.fspath(source)!r}: {reason}."
    )


def _decode(file: Any, name: str) -> Iterator[Line]:
    for number, line in enumerate(file, start=1):
        place = f"{name}, line {number}"
        content = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
        try:
            text = content.decode("utf-8")
        except UnicodeDecodeError as error:
            raise InputValueError(
                f"{place}: the file must be UTF-8. Received: the byte 0x{content[error.start]:02x} at position "
                f"{error.start} of the line. Convert the file first, for example with `iconv`."
            ) from error
        yield Line(place, text.removesuffix("\n").removesuffix("\r"))
