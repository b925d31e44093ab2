"""A folder that one process works in, until it ends in any way: `locked`."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

from bridge.errors import OutputError, ProcessError


def locked(folder: Path, output: Path) -> int:
    """Makes a folder, and locks it until the descriptor is closed or the process ends in any way.

    Raises:
        ProcessError: another process holds it.
        OutputError: it is not a folder.
    """
    while True:
        try:
            folder.mkdir(exist_ok=True)
        except FileExistsError:
            raise OutputError(
                f"The folder of work in progress must be a folder. Received: {folder}, a file. Take it away, or name "
                "another output."
            ) from None
        try:
            descriptor = os.open(folder, os.O_RDONLY)
        except FileNotFoundError:  # removed by a process that has just finished
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise ProcessError(
                f"An output must be written by one process. Received: {output}, on which another process works. Wait "
                "for it, or name another output."
            ) from None
        except OSError as error:
            # Some network file systems have no locks.
            if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
                os.close(descriptor)
                raise
        if holds(descriptor, folder):
            return descriptor
        os.close(descriptor)  # likewise: what is locked is no longer there


def holds(descriptor: int, folder: Path) -> bool:
    """Whether what is locked is still that folder, and not removed, renamed or replaced by another process's."""
    return folder.exists() and os.path.samestat(os.stat(folder), os.fstat(descriptor))
