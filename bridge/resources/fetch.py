"""A path, URL or archive member, as a local file."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from bridge.errors import ResourceNotFoundError
from bridge.resources.archive import read_member
from bridge.resources.config import MODELS_URL_VARIABLE, REMOTE
from bridge.resources.tar_stream import ArchiveError

MODEL_REMEDY = (
    "Files that you already have can be named in an INI file or as ElmoConfig(options_file, weight_file); "
    f"{MODELS_URL_VARIABLE} can name a mirror of the published models."
)
CACHE_REMEDY = (
    "Check the folder, its permissions and the space on its disk. CACHED_PATH_CACHE_ROOT, set before Python starts, "
    "names another one."
)
UNWRITABLE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ENOSPC, errno.EDQUOT}


def fetch(path: str, origin: str, download: bool = True, remedy: str = MODEL_REMEDY) -> Path:
    """Returns the local file that `path` names; downloads it first when it is a URL.

    URLs go through `cached_path`: its cache folder is `~/.cache/cached_path` or what `CACHED_PATH_CACHE_ROOT` says,
    and without a network it uses the newest cached version. Of an archive only the one file is unpacked, into the same
    folder, see `read_member`.

    Args:
        path: local path, URL, or either of an archive with `!` and the member's name behind it.
        origin: where the path was read, for the error message.
        download: whether a URL may be downloaded. Otherwise the newest cached version is returned, without a look at
            the network.
        remedy: ends the error message of a URL that can't be fetched.

    Raises:
        ResourceNotFoundError: there is no such file, it is a folder, or it could not be fetched.
    """
    remote = bool(REMOTE.match(path))
    local = os.path.expanduser(path)
    if not remote and ("!" not in path or os.path.exists(local)):
        return _local(local, origin)
    archive, is_member, member = path.partition("!")
    file = _fetch_whole(archive, path, origin, download, remedy)
    return _member(file, member, path, origin) if is_member else file


def _fetch_whole(url: str, path: str, origin: str, download: bool, remedy: str) -> Path:
    """The local file of a URL or a path; `path` is what the user wrote."""
    if not REMOTE.match(url):
        return _local(os.path.expanduser(url), origin, "Check the archive's path. ")
    if not download and not url.lower().startswith("file://"):
        return _cached(url, path, origin)
    # Imported at use: its cloud clients take half a second.
    from cached_path import cached_path, get_cache_dir  # noqa: PLC0415

    try:
        fetched = cached_path(url)
    except Exception as error:  # each of its cloud clients has an error hierarchy of its own
        if isinstance(error, OSError) and error.errno in UNWRITABLE:
            raise ResourceNotFoundError(
                f"{origin} must name a file that can be fetched into the cache. Received: {path!r}, and the cache "
                f"{str(get_cache_dir())!r} can't be written ({type(error).__name__}: {error}). {CACHE_REMEDY}"
            ) from error
        raise ResourceNotFoundError(
            f"{origin} must name a file that can be fetched. Received: {path!r}, which failed with "
            f"{type(error).__name__}: {error}. Check the address (http, https, s3, gs or hf) and the network. {remedy}"
        ) from error
    if not fetched.is_file():  # a whole `hf://` repository
        raise ResourceNotFoundError(
            f"{origin} must name a file. Received: {path!r}, which is a folder. Name the file in it."
        )
    return fetched


def _member(archive: Path, member: str, path: str, origin: str) -> Path:
    """A copy of a file of an archive."""
    from cached_path import get_cache_dir  # noqa: PLC0415

    try:
        return read_member(archive, member, get_cache_dir())
    except ArchiveError as error:
        raise ResourceNotFoundError(
            f"{origin} must name a file. Received: {path!r}: {error}. Check the archive's path and the member's name."
        ) from error
    except OSError as error:
        raise ResourceNotFoundError(
            f"{origin} must name a file that can be copied into the cache. Received: {path!r}, and "
            f"{type(error).__name__}: {error}. {CACHE_REMEDY}"
        ) from error


def _cached(url: str, path: str, origin: str) -> Path:
    """The newest version of a URL in `cached_path`'s cache."""
    from cached_path import find_latest_cached  # noqa: PLC0415

    cached = find_latest_cached(url)
    if cached is None or not cached.is_file():
        raise ResourceNotFoundError(
            f"{origin} must name a file that is here already, because nothing is downloaded at this point. Received: "
            f'{path!r}, which is not in the cache. Download it once, with `Checkpoint.open`, or with "hf://" give a '
            "local copy."
        )
    return cached


def _local(path: str, origin: str, remedy: str = "") -> Path:
    """That file, absolute: the working directory may change. `os.path` finds no wrong path worth an exception."""
    absolute = Path(path).absolute()
    if os.path.isfile(absolute):
        return absolute
    if os.path.exists(absolute):
        kind = "a folder. Name the file in it" if os.path.isdir(absolute) else "not a regular file"
        raise ResourceNotFoundError(f"{origin} must name a file. Received: {path!r}, which is {kind}.")
    parent = next(folder for folder in absolute.parents if os.path.isdir(folder))
    raise ResourceNotFoundError(
        f"{origin} must name a file that exists. Received: {path!r}. Looked for {str(absolute)!r}, of which "
        f"{str(parent)!r} exists. {remedy}Correct the path, or the permissions of that folder."
    )
