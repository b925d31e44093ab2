"""A path, URL or archive member, as a local file."""

from __future__ import annotations

import os
from pathlib import Path

from bridge.errors import ResourceNotFoundError
from bridge.resources.config import MODELS_URL_VARIABLE, REMOTE

MODEL_REMEDY = (
    "Files that you already have can be named in an INI file or as ElmoConfig(options_file, weight_file); "
    f"{MODELS_URL_VARIABLE} can name a mirror of the published models."
)


def fetch(path: str, origin: str, download: bool = True, remedy: str = MODEL_REMEDY) -> Path:
    """Returns the local file that `path` names; downloads it first when it is a URL.

    URLs and `archive.zip!file` go through `cached_path`: its cache folder is `~/.cache/cached_path` or what
    `CACHED_PATH_CACHE_ROOT` says, and without a network it uses the newest cached version.

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

    if remote and not download and not path.lower().startswith("file://"):
        return _cached(path, origin)
    # Imported at use: its cloud clients take half a second.
    from cached_path import cached_path  # noqa: PLC0415

    try:
        fetched = cached_path(path, extract_archive="!" in path)
    except Exception as error:  # each of its cloud clients has an error hierarchy of its own
        remedy = (
            f"Check the address (http, https, s3, gs or hf) and the network. {remedy}"
            if remote
            else "Check the archive's path and the member's name."
        )
        raise ResourceNotFoundError(
            f"{origin} must name a file that can be fetched. Received: {path!r}, which failed with "
            f"{type(error).__name__}: {error}. {remedy}"
        ) from error
    if not fetched.is_file():  # a folder of an archive, a whole `hf://` repository
        raise ResourceNotFoundError(
            f"{origin} must name a file. Received: {path!r}, which is a folder. Name the file in it."
        )
    return fetched


def _cached(url: str, origin: str) -> Path:
    """The newest version of a URL in `cached_path`'s cache."""
    from cached_path import find_latest_cached  # noqa: PLC0415

    archive, _, member = url.partition("!")
    cached = find_latest_cached(archive)
    if cached is not None and member:
        cached = cached.with_name(f"{cached.name}-extracted") / member
    if cached is None or not cached.is_file():
        raise ResourceNotFoundError(
            f"{origin} must name a file that is here already, because nothing is downloaded at this point. Received: "
            f'{url!r}, which is not in the cache. Download it once, with `Checkpoint.open`, or with "hf://" give a '
            "local copy."
        )
    return cached


def _local(path: str, origin: str) -> Path:
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
        f"{str(parent)!r} exists. Correct the path, or the permissions of that folder."
    )
