"""Lines of UTF-8 files and streams, each with its place for error messages."""

from __future__ import annotations

import codecs
import gzip
import io
import os
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, NamedTuple

from bridge.errors import BridgeError, InputValueError, ResourceNotFoundError


class Line(NamedTuple):
    """A line without its end, and where it is, such as `train.tsv, line 12`."""

    place: str
    text: str


def read_lines(source: Any, name: str, skip: Callable[[str], None] | None = None) -> Iterator[Line]:
    """Decoded lines, one at a time, without a byte order mark. A file that is not there is told at once.

    Args:
        source: a path, unpacked where it ends in `.gz`, or an open binary stream.
        name: what the lines' places call it.
        skip: is told what is wrong with a line that is not UTF-8, which is then empty. Without it that is an error.

    Raises:
        ResourceNotFoundError: the file cannot be opened.
        InputValueError: it is not gzipped, or not UTF-8.
    """
    if not isinstance(source, str | os.PathLike):
        return _decode(source, name, skip)
    check_exists(source)
    return _read_file(source, name, skip)


def check_exists(path: str | os.PathLike[str]) -> None:
    """Raises ResourceNotFoundError unless there is something at `path`."""
    if not os.path.exists(path):
        raise _unreadable(path, "No such file or directory")


@contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """An open file, whose errors are ours.

    Raises:
        ResourceNotFoundError: it cannot be read.
        InputValueError: what is unpacked from it is not gzipped.
    """
    try:
        with open(path, "rb") as file:
            yield file
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputValueError(
            f"A `.gz` file must be whole and gzipped. Received: {os.fspath(path)!r}: {error}."
        ) from error
    except OSError as error:
        if isinstance(error, BridgeError):
            raise
        raise _unreadable(path, error.strerror) from error


def unpacked(file: BinaryIO, path: str | os.PathLike[str]) -> BinaryIO:
    """What a file holds, unpacked where its path ends in `.gz`."""
    # It only wraps the file, which closes where it was opened.
    return gzip.GzipFile(fileobj=file) if os.fspath(path).lower().endswith(".gz") else file  # type: ignore[return-value]


def stdin() -> BinaryIO:
    """The standard input, apart from `sys.stdin`: Python aborts when it ends while a thread still reads that one."""
    try:
        return open(sys.stdin.fileno(), "rb", closefd=False)
    except io.UnsupportedOperation:  # not a file, as in a test
        return sys.stdin.buffer


def _read_file(source: str | os.PathLike[str], name: str, skip: Callable[[str], None] | None) -> Iterator[Line]:
    with opened(source) as file:
        yield from _decode(unpacked(file, source), name, skip)


def _unreadable(source: str | os.PathLike[str], reason: str | None) -> ResourceNotFoundError:
    return ResourceNotFoundError(
        f"The file to read must exist and be readable. Received: {os.fspath(source)!r}: {reason}."
    )


def _decode(file: Any, name: str, skip: Callable[[str], None] | None) -> Iterator[Line]:
    for number, line in enumerate(file, start=1):
        place = f"{name}, line {number}"
        content = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
        try:
            text = content.decode("utf-8")
        except UnicodeDecodeError as error:
            problem = (
                f"{place}: the file must be UTF-8. Received: the byte 0x{content[error.start]:02x} at position "
                f"{error.start} of the line."
            )
            if skip is None:
                raise InputValueError(f"{problem} Convert the file first, for example with `iconv`.") from error
            skip(problem)
            text = ""
        yield Line(place, text.removesuffix("\n").removesuffix("\r"))
