"""Files that are there as a whole or not at all, whatever kills the process that writes them."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

PARTIAL = ".partial"
# What a disk says that is full, by whatever limit.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def write_file(path: Path, write: Callable[[Path], Any], partial: Path | None = None) -> None:
    """Writes a file as a whole or not at all.

    Args:
        path: the file.
        write: gets the path to write to.
        partial: that path; by default one beside the file, with the same suffix.
    """
    partial = partial or path.with_name(f"{path.stem}{PARTIAL}{path.suffix}")
    try:
        write(partial)
        with open(partial, "rb") as file:
            os.fsync(file.fileno())
        put_in_place(partial, path)
    except BaseException:  # a Ctrl-C, too: nothing half-written stays
        partial.unlink(missing_ok=True)
        raise


def put_in_place(partial: Path, path: Path) -> None:
    """Gives a file that is written and synced its name, for good: the folder is synced too."""
    os.replace(partial, path)
    if os.name == "posix":  # elsewhere a folder can't be opened
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
