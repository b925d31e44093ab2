"""Archives from strangers: one regular file comes out of them, as large as it says, or an error."""

import bz2
import gzip
import io
import multiprocessing
import tarfile
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from bridge.errors import ResourceNotFoundError
from bridge.resources import archive as archive_module
from bridge.resources.fetch import fetch

pytestmark = [
    pytest.mark.usefixtures("cache"),
    # cached_path's Google client says so while it is imported.
    pytest.mark.filterwarnings("ignore:Please install grpcio-status:ImportWarning"),
]

MIB = 1 << 20


@pytest.fixture
def small_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that bombs of three megabytes are large enough: these limits are 64 MB otherwise."""
    monkeypatch.setattr(archive_module, "SMALL_BYTES", MIB)


def refused(path: Path | str, *words: str) -> None:
    with pytest.raises(ResourceNotFoundError) as error:
        fetch(str(path), "elmo.ini, line 2")
    for word in ("elmo.ini, line 2 must name a file", "Received: ", "Check the archive's path", *words):
        assert word in str(error.value)


def zipped(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as writer:
        for name, content in members.items():
            writer.writestr(name, content)
    return path


def tarred(path: Path, *members: tarfile.TarInfo, content: bytes = b"{}", mode: str = "w") -> Path:
    with tarfile.open(path, mode) as writer:  # type: ignore[call-overload]
        for member in members:
            member.size = len(content) if member.isreg() else 0
            writer.addfile(member, io.BytesIO(content) if member.isreg() else None)
    return path


def member_of(kind: bytes, name: str = "o.json", target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def files_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_nothing_but_the_member_is_written(cache: Path, tmp_path: Path) -> None:
    archive = zipped(tmp_path / "a.zip", {"o.json": b"{}", "../../evil": b"x", "/tmp/evil": b"x", "other": b"x"})
    found = fetch(f"{archive}!o.json", "ORIGIN")
    assert found.read_bytes() == b"{}"
    assert [path for path in cache.rglob("*") if path.is_file() and path.suffix != ".lock"] == [found]
    assert files_in(tmp_path) - {str(path.relative_to(tmp_path)) for path in cache.rglob("*")} == {"a.zip"}


@pytest.mark.parametrize(
    "member", ["../o.json", "in/../../o.json", "/o.json", "", ".", "..", "in/", "in\\o.json", "./../o.json"]
)
def test_paths_that_lead_out(member: str, tmp_path: Path) -> None:
    (tmp_path / "o.json").write_text("{}")
    archive = zipped(tmp_path / "a.zip", {"in/o.json": b"{}", "../o.json": b"x", "/o.json": b"x"})
    refused(f"{archive}!{member}", "is no path of a file inside an archive")


@pytest.mark.parametrize("member", ["in/o.json", "./in/o.json", "in//o.json", "in/x/../o.json"])
def test_paths_that_stay_inside(member: str, tmp_path: Path) -> None:
    for archive in (
        zipped(tmp_path / "a.zip", {"in/o.json": b"{}"}),
        tarred(tmp_path / "a.tar", tarfile.TarInfo("./in/o.json")),
    ):
        assert fetch(f"{archive}!{member}", "ORIGIN").read_bytes() == b"{}"


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (tarfile.SYMTYPE, "is a symbolic link"),
        (tarfile.LNKTYPE, "is a hard link"),
        (tarfile.CHRTYPE, "is a device"),
        (tarfile.BLKTYPE, "is a device"),
        (tarfile.FIFOTYPE, "is a pipe"),
        (tarfile.DIRTYPE, "is a folder"),
        (tarfile.GNUTYPE_SPARSE, "only regular files are read"),
    ],
)
def test_members_that_are_no_files(kind: bytes, words: str, tmp_path: Path) -> None:
    refused(f"{tarred(tmp_path / 'a.tar', member_of(kind, target='/etc/passwd'))}!o.json", "'o.json' ", words)


@pytest.mark.parametrize(("mode", "words"), [(0o120777, "is a link"), (0o020666, "a device"), (0o040755, "a folder")])
def test_members_of_a_zip_that_are_no_files(mode: int, words: str, tmp_path: Path) -> None:
    info = zipfile.ZipInfo("o.json")
    info.external_attr = mode << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as writer:
        writer.writestr(info, "/etc/passwd")
    refused(f"{tmp_path}/a.zip!o.json", words)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_several_members_of_one_name(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as writer:
        for name in ("o.json", "x", "./o.json"):
            writer.writestr(name, name)
    refused(f"{tmp_path}/a.zip!o.json", "is in the archive 2 times")
    tarred(tmp_path / "a.tar.gz", *map(tarfile.TarInfo, ["o.json", "x", "o.json"]), mode="w:gz")
    refused(f"{tmp_path}/a.tar.gz!o.json", "is in the archive 2 times")


def test_encrypted_member(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", {"o.json": b"{}"}, zipfile.ZIP_STORED)
    content = bytearray(path.read_bytes())
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1  # general purpose bit 0, in both headers
    path.write_bytes(content)
    refused(f"{path}!o.json", "is encrypted. Unpack it yourself")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_methods_that_cannot_be_bounded(method: int, tmp_path: Path) -> None:
    refused(f"{zipped(tmp_path / 'a.zip', {'o.json': b'{}'}, method)}!o.json", "another method than deflate")


@pytest.mark.usefixtures("small_limit")
def test_zip_bomb(cache: Path, tmp_path: Path) -> None:
    archive = zipped(tmp_path / "a.zip", {"w.hdf5": bytes(3 * MIB), "o.json": b"{}"})
    refused(f"{archive}!w.hdf5", f"claims {3 * MIB} bytes, stored in ", "unpack it yourself")
    assert not [path for path in cache.rglob("*") if path.is_file() and path.stat().st_size]
    assert fetch(f"{archive}!o.json", "ORIGIN").read_bytes() == b"{}"  # which does not unpack the other


def test_member_larger_than_it_says(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", {"w.hdf5": bytes(2 * MIB)})
    content = path.read_bytes()
    path.write_bytes(content.replace((2 * MIB).to_bytes(4, "little"), (1000).to_bytes(4, "little")))
    refused(f"{path}!w.hdf5", "damaged or incomplete")  # and no more than 1000 bytes are unpacked to find that


def test_member_of_more_bytes_than_any_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_module, "MAX_MEMBER_BYTES", 1000)
    refused(f"{zipped(tmp_path / 'a.zip', {'w': bytes(1001)}, zipfile.ZIP_STORED)}!w", "claims 1001 bytes")
    refused(f"{tarred(tmp_path / 'a.tar', tarfile.TarInfo('w'), content=bytes(1001))}!w", "claims 1001 bytes")


@pytest.mark.usefixtures("small_limit")
@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress])
@pytest.mark.parametrize("member", ["w.hdf5", "no.json"])
def test_tar_bomb(compress: Callable[[bytes], bytes], member: str, tmp_path: Path) -> None:
    """Of a few kilobytes, three megabytes come: in the member, or before it."""
    tarred(tmp_path / "a.tar", tarfile.TarInfo("w.hdf5"), content=bytes(3 * MIB))
    archive = tmp_path / "a.tar.gz"
    archive.write_bytes(compress((tmp_path / "a.tar").read_bytes()))
    refused(f"{archive}!{member}", f"the archive unpacks to more than {MIB} bytes", "unpack it yourself")


def test_tar_header_that_is_a_bomb(tmp_path: Path) -> None:
    info = member_of(tarfile.XHDTYPE, "x")
    info.size = 50 * MIB
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(info.tobuf() + bytes(50 * MIB)))
    refused(f"{tmp_path}/a.tar.gz!o.json", f"a header that claims {50 * MIB} bytes")


def with_attributes(attributes: dict[str, str]) -> bytes:
    """The headers of a member of no bytes."""
    info = tarfile.TarInfo("o.json")
    info.pax_headers = attributes
    return info.tobuf(tarfile.PAX_FORMAT)


@pytest.mark.parametrize(
    "content",
    [
        with_attributes({"comment": "x"})[:1024] * 3000 + with_attributes({}),
        tarfile.TarInfo("x" * 200).tobuf(tarfile.GNU_FORMAT)[:1024] * 3000 + with_attributes({}),
        with_attributes({"GNU.sparse.map": "a,b"}),
        with_attributes({"size": "-5000"}),
    ],
    ids=["attributes of attributes", "names of names", "map", "size"],
)
def test_tar_headers_that_make_no_sense(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(content + bytes(1024))
    refused(f"{tmp_path}/a.tar!o.json", "it is damaged or incomplete")


def old_sparse_map(blocks: int) -> bytes:
    header = bytearray(member_of(tarfile.GNUTYPE_SPARSE, "x").tobuf(tarfile.GNU_FORMAT))
    header[482] = 1  # the map goes on in the next block
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + (b"00000000000\0" * 42 + b"\1" + bytes(7)) * blocks


def new_sparse_map(blocks: int) -> bytes:
    info = tarfile.TarInfo("x")
    info.size = 512 * blocks
    info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}
    return info.tobuf(tarfile.PAX_FORMAT) + b"%0511d\n" % (1 << 40) + b"1000000\n" * (64 * (blocks - 1))


@pytest.mark.parametrize("sparse_map", [old_sparse_map, new_sparse_map])
def test_sparse_map_that_is_a_bomb(sparse_map: Callable[[int], bytes], tmp_path: Path) -> None:
    """A list of it takes many times the memory of what it unpacks to."""
    content = sparse_map(20 * MIB // 512)
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(content, 1))
    del content
    tracemalloc.start()
    refused(f"{tmp_path}/a.tar.gz!o.json", "'x' is a sparse file, and only regular files are read")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10 * MIB


def test_name_in_a_zip_that_is_no_text(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", {"é": b"", "o.json": b"{}"})
    path.write_bytes(path.read_bytes().replace("é".encode(), b"\xff\xff"))
    refused(f"{path}!o.json", "it is damaged or incomplete (UnicodeDecodeError")


def test_too_many_members(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_module, "MAX_MEMBERS", 10)
    names = [str(number) for number in range(11)]
    for archive in (
        tarred(tmp_path / "a.tar", *map(tarfile.TarInfo, names)),
        zipped(tmp_path / "a.zip", dict.fromkeys(names, b"{}")),
    ):
        refused(f"{archive}!o.json", "more than 10 members")


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz", "tar.bz2"])
def test_truncated_and_damaged_archives(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{kind}"
    if kind == "zip":
        zipped(path, {"o.json": bytes(range(256)) * 20})
    else:
        mode = f"w:{kind.removeprefix('tar').removeprefix('.')}"
        tarred(path, tarfile.TarInfo("o.json"), content=bytes(range(256)) * 20, mode=mode)
    content = path.read_bytes()
    damaged = [content[: len(content) * tenth // 10] for tenth in range(10)]
    for position in range(0, len(content), max(1, len(content) // 50)):
        damaged.append(content[:position] + bytes([content[position] ^ 0xFF]) + content[position + 1 :])
    errors = []
    for changed in damaged:
        path.write_bytes(changed)
        try:
            fetch(f"{path}!o.json", "ORIGIN")
        except ResourceNotFoundError as error:
            errors.append(str(error))
    assert len(errors) >= (4 if kind == "tar" else 10)  # plain tar ends in zeros, and has checksums of headers alone
    assert all("Check the archive's path" in error for error in errors)


def test_an_archive_that_changes_is_read_again(tmp_path: Path) -> None:
    for content in (b"old", b"newer"):
        archive = zipped(tmp_path / "a.zip", {"o.json": content})
        assert fetch(f"{archive}!o.json", "ORIGIN").read_bytes() == content


def read_in_child(path: str, cache: str, results: "multiprocessing.Queue[bytes]") -> None:
    found = archive_module.read_member(Path(path), "w", Path(cache))
    results.put(zlib.crc32(found.read_bytes()).to_bytes(4, "little"))


@pytest.mark.slow
def test_two_processes_at_once(cache: Path, tmp_path: Path) -> None:
    content = bytes(range(256)) * (8 * MIB // 256)
    archive = zipped(tmp_path / "a.zip", {"w": content})
    context = multiprocessing.get_context("spawn")
    results: multiprocessing.Queue[bytes] = context.Queue()
    children = [context.Process(target=read_in_child, args=(str(archive), str(cache), results)) for _ in range(3)]
    for child in children:
        child.start()
    received = {results.get(timeout=60) for _ in children}
    for child in children:
        child.join()
    assert received == {zlib.crc32(content).to_bytes(4, "little")}
    assert len([path for path in cache.rglob("*") if path.is_file() and path.suffix != ".lock"]) == 1
