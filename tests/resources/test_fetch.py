"""Paths, URLs and archive members as local files. The server is real, the cache folder is the test's own."""

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from models import random_model
from resources.http_server import Server

from bridge.errors import CheckpointError, ResourceNotFoundError
from bridge.resources.checkpoint import Checkpoint
from bridge.resources.config import ElmoConfig
from bridge.resources.fetch import fetch

pytestmark = [
    pytest.mark.usefixtures("cache"),
    # cached_path's Google client says so while it is imported.
    pytest.mark.filterwarnings("ignore:Please install grpcio-status:ImportWarning"),
]

ORIGIN = "elmo.ini, line 2"


def not_found(path: str, *words: str) -> None:
    with pytest.raises(ResourceNotFoundError) as error:
        fetch(path, ORIGIN)
    assert isinstance(error.value, FileNotFoundError)
    for word in (f"{ORIGIN} must name a file", "Received: ", *words):
        assert word in str(error.value)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("FOLDER/no/such/o.json", ["Looked for 'FOLDER/no/such/o.json', of which 'FOLDER' exists", "Correct"]),
        ("no/o.json", ["Received: 'no/o.json'. Looked for 'FOLDER/no/o.json', of which 'FOLDER' exists"]),
        ("~/no.json", ["Looked for 'FOLDER/no.json'"]),
        ("~no-such-user/o.json", ["Looked for 'FOLDER/~no-such-user/o.json'"]),
        ("FOLDER", ["is a folder", "Name the file in it"]),
        (os.devnull, ["not a regular file"]),
        ("a\0b", [r"a\x00b"]),
        ("x" * 5000 + "/o.json", ["of which 'FOLDER' exists"]),
        ("FOLDER/no!o.json", ["Check the archive's path"]),
    ],
)
def test_local_file_that_is_not_there(
    path: str, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    not_found(path.replace("FOLDER", str(tmp_path)), *(word.replace("FOLDER", str(tmp_path)) for word in words))


@pytest.mark.parametrize("path", ["FOLDER/a!b", "a!b", "./a!b", "~/a!b", "ab", "file://FOLDER/ab"])
def test_local_file(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("a!b", "ab"):
        (tmp_path / name).write_text("content")
    found = fetch(path.replace("FOLDER", str(tmp_path)), ORIGIN)
    monkeypatch.chdir("/")  # what was found is absolute
    assert found.read_text() == "content"


def test_downloads_once_and_again_when_it_changes(server: Server, cache: Path) -> None:
    server.files["/o.json"] = b"old"
    for _ in range(2):
        found = fetch(f"{server.url}/o.json", ORIGIN)
        assert found.read_bytes() == b"old"
        assert found.parent == cache
    assert server.requests.count("GET /o.json") == 1
    server.files["/o.json"] = b"new"
    assert fetch(f"{server.url}/o.json", ORIGIN).read_bytes() == b"new"


def test_newest_cached_version_without_a_network(server: Server) -> None:
    for content in (b"old", b"new"):
        server.files["/o.json"] = content
        fetch(f"{server.url}/o.json", ORIGIN)
    server.stop()
    assert fetch(f"{server.url}/o.json", ORIGIN).read_bytes() == b"new"
    not_found(f"{server.url}/w.hdf5", "refused")


REMEDY = [
    "Check the address",
    "the network",
    "ElmoConfig(options_file, weight_file)",
    "INI file",
    "ELMO_MODELS_URL",
]


@pytest.mark.parametrize("status", [404, 403, 500, 503])
def test_dead_link_says_where_else_to_put_the_files(status: int, server: Server) -> None:
    if status != 404:
        server.files["/o.json"] = b"x"
        server.status = status
    words = "FileNotFoundError" if status == 404 else str(status)
    not_found(f"{server.url}/o.json", f"Received: '{server.url}/o.json'", words, *REMEDY)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/o", "http://[", "https://", "ftp://h/o", "gs://", "x+y://a!b"])
def test_unusable_url(url: str) -> None:
    not_found(url, f"Received: {url!r}, which failed with", *REMEDY)


def test_cut_download_is_not_kept(server: Server) -> None:
    server.files["/o.json"], server.cut = b"content", 3
    not_found(f"{server.url}/o.json", *REMEDY)
    server.cut = 0
    assert fetch(f"{server.url}/o.json", ORIGIN).read_bytes() == b"content"


@pytest.mark.parametrize("url", ["http://h/a", "https://h/a", "HTTPS://h/a", "s3://b/a", "gs://b/a", "hf://u/r/a"])
@pytest.mark.parametrize("member", ["", "!in/o.json"])
def test_urls_go_through_cached_path(url: str, member: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    with zipfile.ZipFile(tmp_path / "a", "w") as archive:
        archive.writestr("in/o.json", "content")

    def cached_path(path: str) -> Path:
        calls.append(path)
        return tmp_path if "u/r" in path else tmp_path / "a"

    monkeypatch.setattr("cached_path.cached_path", cached_path)
    if "u/r" in url:
        not_found(url + member, "is a folder", "Name the file in it")  # as a whole repository is
    elif member:
        assert fetch(url + member, ORIGIN).read_text() == "content"
    else:
        assert fetch(url, ORIGIN) == tmp_path / "a"
    assert calls == [url]


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz", "tar.bz2"])
@pytest.mark.parametrize("remote", [False, True])
def test_archive_member(kind: str, remote: bool, small: ElmoConfig, server: Server, tmp_path: Path) -> None:
    archive = tmp_path / f"model.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(archive, "w") as writer:
            writer.write(small.options_file, "in/o n.json")
            writer.write(small.weight_file, "in/w.hdf5")
    else:
        with tarfile.open(archive, f"w:{kind.removeprefix('tar').removeprefix('.')}") as tar:  # type: ignore[call-overload]
            tar.add(small.options_file, "in/o n.json")
            tar.add(small.weight_file, "in/w.hdf5")
    server.files["/model"] = archive.read_bytes()
    base = f"{server.url}/model" if remote else str(archive)
    checkpoint = Checkpoint.open(ElmoConfig(f"{base}!in/o n.json", f"{base}!in/w.hdf5"))
    assert checkpoint.fingerprint == Checkpoint.open(small).fingerprint
    not_found(f"{base}!in/no.json", "'in/no.json' not found", "Check the a")
    not_found(f"{base}!in", "is a folder", "Name the file in it")


def test_member_of_what_is_no_archive(small: ElmoConfig) -> None:
    not_found(f"{small.options_file}!o.json", "does not specify an archive", "Check the archive's path")


def test_published_model_from_a_mirror(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_model(tmp_path)
    name = "2x1024_128_2048cnn_1xhighway"
    monkeypatch.setenv("ELMO_MODELS_URL", f"{server.url}/mirror/")
    with pytest.raises(ResourceNotFoundError) as error:
        Checkpoint.open("small")
    for file in ("options.json", "weights.hdf5"):  # both in one message
        assert f"{server.url}/mirror/{name}/elmo_{name}_{file}" in str(error.value)
    for file, local in (("options.json", model.options_file), ("weights.hdf5", model.weight_file)):
        server.files[f"/mirror/{name}/elmo_{name}_{file}"] = Path(local).read_bytes()
    assert Checkpoint.open("small").fingerprint == Checkpoint.open(model).fingerprint


def test_damaged_download_says_what_to_delete(server: Server, cache: Path, small: ElmoConfig) -> None:
    server.files["/w.hdf5"] = b"<html>Sign in</html>"
    with pytest.raises(CheckpointError) as error:
        Checkpoint.open(ElmoConfig(small.options_file, f"{server.url}/w.hdf5"))
    (cached,) = (path for path in cache.iterdir() if path.suffix not in (".json", ".lock"))
    assert f"delete '{cached}'" in str(error.value)
    assert "HTML" in str(error.value)


ALONE = """
import sys
import warnings

def hook(event, arguments):
    if event == "pickle.find_class":
        raise RuntimeError(f"unpickled {arguments}")

from bridge import Checkpoint, ElmoConfig
assert "cached_path" not in sys.modules
options_file, weight_file, url, bomb = sys.argv[1:]
sys.addaudithook(hook)
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import cached_path
Checkpoint.open(ElmoConfig(options_file, weight_file)).fingerprint
print(Checkpoint.open(ElmoConfig(options_file, url)).weight_file)
for files in ((options_file, bomb), (bomb, weight_file)):
    try:
        Checkpoint.open(ElmoConfig(*files))
    except ValueError:
        continue
    raise AssertionError(files)
for name in ("torch", "tensorflow", "keras", "allennlp"):
    assert name not in sys.modules, name
"""


@pytest.mark.slow
def test_needs_neither_torch_nor_tensorflow_nor_pickle(server: Server, small: ElmoConfig, tmp_path: Path) -> None:
    bomb = tmp_path / "model.pkl"
    bomb.write_bytes(b"cbuiltins\nprint\n(S'unpickled'\ntR.")
    server.files["/w.hdf5"] = Path(small.weight_file).read_bytes()
    done = subprocess.run(
        [sys.executable, "-c", ALONE, small.options_file, small.weight_file, f"{server.url}/w.hdf5", str(bomb)],
        env=os.environ | {"CACHED_PATH_CACHE_ROOT": str(tmp_path / "root")},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).parent == tmp_path / "root"
