"""A feature file while it is written: `PartialFile`."""

from __future__ import annotations

import errno
import fcntl
import os
import weakref
from pathlib import Path
from typing import Any

from bridge.errors import InputValueError, OutputError
from bridge.features.uninterrupted import uninterrupted
from bridge.whole_file import PARTIAL, put_in_place


class PartialFile:
    """A binary file under a hidden name beside its own, which it gets when it is whole: see `commit`.

    What h5py and pyarrow write to, instead of a path, for one reason: HDF5 can't close a file that it can't write, as
    on a full disk, and hangs or aborts the process when it ends. Here a write never fails. The first error is kept
    for `check`, and what comes after it is dropped.

    A file that a killed process left is overwritten by the next one of the same name; one that another process is
    writing is not, as it is locked.

    Args:
        path: the final name. Its folder is made.
        overwrite: whether a file of that name may be there; it is replaced by `commit`.

    Raises:
        InputValueError: the path is taken.
        OutputError: the file can't be made.
    """

    closed = False  # pyarrow asks

    def __init__(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        # Of a link the target is replaced, as if it was written in place.
        self.path = Path(os.path.realpath(path))
        self._overwrite = overwrite
        self._check_is_free()
        self._partial = self.path.with_name(f".{self.path.name}{PARTIAL}")
        self._error: OSError | None = None
        self._pid = os.getpid()
        self._position = self._size = 0
        try:
            uninterrupted(self._open)  # a Ctrl-C in the midst of it would leave a locked file
        except BlockingIOError:
            raise InputValueError(
                f"A file must be written by one process at a time. Received: {str(path)!r}, which another process is "
                "writing. Wait for it, or name another file."
            ) from None
        except OSError as error:
            raise _described(error, self.path) from error

    def _open(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = _open_locked(self._partial)
        self._finalizer = weakref.finalize(self, _remove, self._partial, self._descriptor, self._pid)

    def commit(self) -> None:
        """Gives the file its name: from now on it is there, as a whole.

        Raises:
            OutputError: it could not be written, and is removed.
            InputValueError: another one of that name came meanwhile.
        """
        try:
            self.check()
            self._check_is_free()
            try:
                os.fsync(self._descriptor)
                put_in_place(self._partial, self.path)
            except OSError as error:
                raise _described(error, self.path) from error
        except BaseException:  # a Ctrl-C, too: nothing half-written stays
            self.discard()
            raise
        self._finalizer.detach()
        os.close(self._descriptor)

    def discard(self) -> None:
        """Removes the file, unless it has its name already."""
        self._finalizer()

    def check(self) -> None:
        """Raises an OutputError where a write failed."""
        if self._error is not None:
            raise _described(self._error, self.path) from self._error

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = start + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        if self._is_written():
            written = 0
            try:
                while written < len(view):
                    written += os.pwrite(self._descriptor, view[written:], self._position + written)
            except OSError as error:
                self._error = error
        self._position += len(view)
        self._size = max(self._size, self._position)
        return len(view)

    def read(self, size: int = -1) -> bytes:
        data = bytearray(self._size - self._position if size < 0 else size)
        return bytes(data[: self.readinto(data)])

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        read = 0
        while read < len(view) and (data := os.pread(self._descriptor, len(view) - read, self._position + read)):
            view[read : read + len(data)] = data
            read += len(data)
        self._position += read
        return read

    def truncate(self, size: int | None = None) -> int:
        self._size = self._position if size is None else size
        if self._is_written():
            try:
                os.ftruncate(self._descriptor, self._size)
            except OSError as error:
                self._error = error
        return self._size

    def flush(self) -> None:
        """Nothing is buffered."""

    def close(self) -> None:
        """Nothing: `commit` or `discard` ends the file."""

    def _is_written(self) -> bool:
        # A forked child closes its copy of what its parent goes on writing, and libraries close again what has ended.
        return self._error is None and self._finalizer.alive and os.getpid() == self._pid

    def _check_is_free(self) -> None:
        # `os.path` rather than `Path`: for it no path is too long.
        if not os.path.exists(self.path):
            return
        if not self.path.is_file():
            raise InputValueError(
                f"The path to write to must be that of a file. Received: {str(self.path)!r}, which is something else, "
                "such as a folder. Name a file."
            )
        if not self._overwrite:
            raise InputValueError(
                f"The file to write must not be there yet. Received: {str(self.path)!r}, which is. Replace it with "
                "`overwrite=True` (--overwrite), or name another file."
            )


def _open_locked(path: Path) -> int:
    """Opens an empty file that no other process has opened so, and never one that has got its final name."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            _lock(descriptor)
            if _is_at(path, descriptor):
                os.ftruncate(descriptor, 0)
                return descriptor
        except OSError:
            os.close(descriptor)
            raise
        os.close(descriptor)  # renamed or removed between opening and locking


def _lock(descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        # Some network file systems have no locks; the lock is a second safety, for users' mistakes.
        if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
            raise


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _remove(path: Path, descriptor: int, pid: int) -> None:
    if os.getpid() == pid:  # a forked child only closes its copy
        path.unlink(missing_ok=True)
    os.close(descriptor)


def _described(error: OSError, path: Path) -> OutputError:
    """With the number of the error, such as `errno.ENOSPC`, and what it means for the file."""
    return OutputError(
        error.errno,
        f"A feature file could not be written: {error.strerror or error}. Nothing of it is left, and a file that had "
        "its name stays as it was. Free space, correct the permissions, or name a file elsewhere",
        str(path),
    )
