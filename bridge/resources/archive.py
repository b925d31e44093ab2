"""One file out of an archive, into the cache: nothing else of the archive is ever written."""

from __future__ import annotations

import errno
import hashlib
import os
import posixpath
import stat
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from bridge.resources.tar_stream import ArchiveError, tar_stream
from bridge.whole_file import put_in_place

FORMS = "ZIP, tar, tar.gz and tar.bz2 archives are read"
BLOCK = 1 << 20
# The largest published model has 375 MB, twice that in float64.
MAX_MEMBER_BYTES = 4 << 30
# Weights hardly compress. What claims to be more than this many times its archive is a bomb, unless it is small.
MAX_GROWTH = 100
SMALL_BYTES = 64 << 20
MAX_MEMBERS = 100_000
KINDS = {
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.LNKTYPE: "a hard link",
    tarfile.FIFOTYPE: "a pipe",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
}


def read_member(archive: Path, member: str, cache: Path) -> Path:
    """Copies a file of an archive into the cache, once, and returns the copy.

    The copy is named by the archive's path, time and size and by the member's name. It is written as a whole or not
    at all, by one process at a time.

    Args:
        archive: a local file.
        member: path of a regular file in it, with slashes.
        cache: a folder; it is made if it is not there.

    Raises:
        ArchiveError: it is no archive, has no such file or several, or the file is a link, encrypted, or larger than
            an honest archive's.
        OSError: the archive can't be read, or the cache not be written.
    """
    name = posixpath.normpath(member)
    if (
        not member
        or member.endswith("/")
        or name == "."
        or name.startswith(("/", ".."))
        or "\\" in member
        or "\0" in member
    ):
        raise ArchiveError(f"'{member}' is no path of a file inside an archive: give one without a root or `..`")
    status = archive.stat()
    identity = f"{archive.resolve()}\0{status.st_mtime_ns}\0{status.st_size}\0{name}"
    folder = cache / "elmo-bridge-members"
    copy = folder / hashlib.sha256(identity.encode("utf-8", "surrogatepass")).hexdigest()
    if copy.is_file():
        return copy
    # It comes with cached_path, which locks by it, too.
    from filelock import FileLock  # noqa: PLC0415

    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{copy}.lock"):
        if not copy.is_file():
            _write(copy, lambda file: _extract(archive, name, status.st_size, file))
    return copy


def _write(copy: Path, write: Callable[[IO[bytes]], None]) -> None:
    handle, partial = tempfile.mkstemp(dir=copy.parent, prefix=copy.name)
    try:
        with open(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        put_in_place(Path(partial), copy)
    except BaseException:  # a Ctrl-C, too: nothing half-written stays
        Path(partial).unlink(missing_ok=True)
        raise


def _extract(archive: Path, name: str, archive_size: int, target: IO[bytes]) -> None:
    with open(archive, "rb") as file:
        head = file.read(512)
    try:
        if head.startswith((b"\x1f\x8b", b"BZh")) or head[257:262] == b"ustar":
            with tar_stream(archive, head, max(SMALL_BYTES, MAX_GROWTH * archive_size)) as reader:
                _extract_from_tar(reader, name, target)
        elif zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as members:
                _extract_from_zip(members, name, target)
        else:
            raise ArchiveError(f"what is before the `!` does not specify an archive: {FORMS}")
    except (ArchiveError, MemoryError):
        raise
    except Exception as error:  # for damage they raise zlib.error, ValueError, IndexError, RecursionError ...
        # Decompressors give no number, and a damaged ZIP sends its reader to places before its beginning (EINVAL).
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise
        raise ArchiveError(
            f"the archive can't be read, it is damaged or incomplete ({type(error).__name__}: {error})"
        ) from error


def _extract_from_zip(reader: zipfile.ZipFile, name: str, target: IO[bytes]) -> None:
    members = reader.infolist()
    _check_number(len(members))
    info = _only([entry for entry in members if _normal(entry.filename) == name], name, (e.filename for e in members))
    # The upper half are Unix's file modes, where the archive was made there.
    if info.is_dir() or stat.S_ISDIR(info.external_attr >> 16):
        raise ArchiveError(f"'{name}' is a folder. Name the file in it")
    if info.external_attr >> 16 and stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG):
        raise ArchiveError(f"'{name}' is a link or a device, and only regular files are read")
    if info.flag_bits & 1:
        raise ArchiveError(f"'{name}' is encrypted. Unpack it yourself")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ArchiveError(f"'{name}' is compressed by another method than deflate. Unpack it yourself")
    _check_size(name, info.file_size, info.compress_size)
    with reader.open(info) as source:
        _copy(source, target, info.file_size, name)


def _extract_from_tar(reader: tarfile.TarFile, name: str, target: IO[bytes]) -> None:
    names: list[str] = []
    found: list[tarfile.TarInfo] = []
    for info in reader:
        names.append(info.name)
        _check_number(len(names))
        if _normal(info.name) != name:
            continue
        found.append(info)
        if info.isdir():
            raise ArchiveError(f"'{name}' is a folder. Name the file in it")
        if not info.isreg() or info.issparse():
            kind = KINDS.get(info.type, "no regular file")
            raise ArchiveError(f"'{name}' is {kind}, and only regular files are read")
        if len(found) == 1:
            _check_size(name, info.size, info.size)
            source = reader.extractfile(info)
            assert source is not None  # a regular file
            _copy(source, target, info.size, name)
    _only(found, name, names)


def _only(found: list[Any], name: str, names: Any) -> Any:
    if len(found) > 1:
        raise ArchiveError(f"'{name}' is in the archive {len(found)} times, and programs differ in which one they take")
    if not found:
        if any(_normal(other).startswith(f"{name}/") for other in names):
            raise ArchiveError(f"'{name}' is a folder. Name the file in it")
        raise ArchiveError(f"'{name}' not found in the archive")
    return found[0]


def _normal(name: str) -> str:
    """`tar c .` writes `./name`."""
    return name.rstrip("/").removeprefix("./")


def _check_number(members: int) -> None:
    if members > MAX_MEMBERS:
        raise ArchiveError(f"the archive has more than {MAX_MEMBERS} members")


def _check_size(name: str, size: int, stored: int) -> None:
    if size > MAX_MEMBER_BYTES or size > max(SMALL_BYTES, MAX_GROWTH * stored):
        raise ArchiveError(
            f"'{name}' claims {size} bytes, stored in {stored}: more than {MAX_MEMBER_BYTES} bytes, or than "
            f"{MAX_GROWTH} times what is stored, is no model. If you trust it, unpack it yourself"
        )


def _copy(source: IO[bytes], target: IO[bytes], size: int, name: str) -> None:
    left = size
    while block := source.read(min(BLOCK, left + 1)):
        left -= len(block)
        if left < 0:
            break
        target.write(block)
    if left:
        raise ArchiveError(f"'{name}' has not the {size} bytes that the archive claims")
