"""A folder that several machines write to: `Storage`."""

from __future__ import annotations

import io
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

from bridge.errors import BridgeError, InputValueError, OutputError
from bridge.optional import require
from bridge.resources.config import REMOTE
from bridge.whole_file import write_file


class Storage:
    """The files of a folder, of a file system or, where it is named by a URL, of object storage.

    A file appears as a whole: under another name first, or by one upload. URLs are those of `pyarrow.fs` (`s3://`,
    `gs://`, `abfs://`, `hdfs://`, `file://`), and else of fsspec. Pickled, it is only its name.

    Args:
        folder: a path or URL.

    Raises:
        InputValueError: nothing knows such URLs.
        OutputError: reading or writing failed. Of every method.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = os.fspath(folder)

    def __getstate__(self) -> dict[str, str]:
        return {"folder": self.folder}

    def names(self) -> list[str]:
        """Names of all files, sorted."""
        filesystem, path = self._place
        selector = require("pyarrow.fs", "ray").FileSelector(path, allow_not_found=True)
        with self._told():
            return sorted(file.base_name for file in filesystem.get_file_info(selector) if file.is_file)

    def has(self, name: str) -> bool:
        """Whether a file is there."""
        filesystem, path = self._place
        with self._told():
            return bool(filesystem.get_file_info(f"{path}/{name}").is_file)

    def read(self, name: str) -> bytes:
        """What a file holds."""
        with self._told(), self.open(name) as file:
            return file.read()

    @contextmanager
    def open(self, name: str) -> Iterator[Any]:
        """A file, open for reading anywhere in it."""
        filesystem, path = self._place
        with self._told(), filesystem.open_input_file(f"{path}/{name}") as file:
            yield file

    def write(self, name: str, write: Callable[[BinaryIO], Any]) -> None:
        """Makes a file, or replaces one; `write` gets the binary stream to write to."""
        filesystem, path = self._place
        with self._told():
            if filesystem.type_name == "local":
                os.makedirs(path, exist_ok=True)
                _write_file(Path(path, name), write)
            else:
                # What is uploaded bit by bit would be there, in part, when an error closes the stream.
                content = io.BytesIO()
                write(content)
                with filesystem.open_output_stream(f"{path}/{name}") as stream:
                    stream.write(content.getbuffer())

    def delete(self, name: str) -> None:
        """Removes a file."""
        filesystem, path = self._place
        with self._told():
            filesystem.delete_file(f"{path}/{name}")

    @cached_property
    def _place(self) -> tuple[Any, str]:
        """The file system, and the folder's path in it."""
        arrow, arrow_fs = require("pyarrow", "ray"), require("pyarrow.fs", "ray")
        if not REMOTE.match(self.folder):
            return arrow_fs.LocalFileSystem(), os.path.abspath(self.folder)
        try:
            with self._told():
                try:
                    filesystem, path = arrow_fs.FileSystem.from_uri(self.folder)
                except arrow.ArrowInvalid:  # not of its own schemes
                    filesystem, path = require("fsspec", "ray").core.url_to_fs(self.folder)
                    filesystem = arrow_fs.PyFileSystem(arrow_fs.FSSpecHandler(filesystem))
        except (ValueError, ImportError) as error:
            if isinstance(error, BridgeError):
                raise
            raise InputValueError(
                "`output` must be a folder, or the URL of one that pyarrow or fsspec can open. Received: "
                f"{self.folder!r}: {error}. Correct the URL, or install what it needs."
            ) from error
        return filesystem, path.rstrip("/")

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if isinstance(error, BridgeError):
                raise
            raise OutputError(
                f"`output` must be in storage that can be read and written, with room. Received: {self.folder}: "
                f"{error}. What is finished stays: mend it, and run the same command with `resume` (--resume)."
            ) from error


def _write_file(path: Path, write: Callable[[BinaryIO], Any]) -> None:
    # A name of its own: a worker that was given up may still write the same part.
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial")

    def write_to(place: Path) -> None:
        with open(place, "wb") as stream:
            write(stream)

    write_file(path, write_to, partial)
