"""A path, URL or archive member, as a local file."""

from __future__ import annotations

from pathlib import Path

from bridge.errors import ResourceNotFoundError
from bridge.resources.config import MODELS_URL_VARIABLE, REMOTE


def fetch(path: str, origin: str) -> Path:
    """Returns the local file that `path` names; downloads it first when it is a URL.

    URLs and `archive.zip!file` go through `cached_path`: its cache folder is `~/.cache/cached_path` or what
    `CACHED_PATH_CACHE_ROOT` says, and without a network it uses the newest cached version.

    Args:
        path: local path, URL, or either of an archive with `!` and the member's name behind it.
        origin: where the path was read, for the error message.

    Raises:
        ResourceNotFoundError: there is no such file, it is a folder, or it could not be fetched.
    """
    remote = bool(REMOTE.match(path))
    local = Path(path).expanduser()
    if not remote and ("!" not in path or local.exists()):
        return _local(local, origin)

    # Imported at use: its cloud clients take half a second.
    from cached_path import cached_path  # noqa: PLC0415

    try:
        return cached_path(path, extract_archive="!" in path)
    except Exception as error:  # each of its cloud clients has an error hierarchy of its own
        remedy = (
            "Check the address and the network. Files that you already have can be named with `options_file=` and "
            f"`weight_file=`, or in an INI file; {MODELS_URL_VARIABLE} can name a mirror of the published models."
            if remote
            else "Check the archive's path and the member's name."
        )
        raise ResourceNotFoundError(
            f"{origin} must name a file that can be fetched. Received: {path!r}, which failed with "
            f"{type(error).__name__}: {error}. {remedy}"
        ) from error


def _local(path: Path, origin: str) -> Path:
    if path.is_dir():
        raise ResourceNotFoundError(f"{origin} must name a file. Received: {str(path)!r}, which is a folder.")
    if not path.exists():
        absolute = path.absolute()
        parent = next(folder for folder in absolute.parents if folder.is_dir())
        raise ResourceNotFoundError(
            f"{origin} must name a file that exists. Received: {str(path)!r}. Looked for {str(absolute)!r}, of "
            f"which {str(parent)!r} exists. Correct the path."
        )
    return path
