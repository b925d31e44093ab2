"""`download=False`: what is here already is found, and nobody is asked for anything. The server is real."""

import os
import socket
import zipfile
from pathlib import Path
from typing import Any

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


def refused(path: str) -> str:
    """The message of the error that fetching `path` without a download must raise."""
    with pytest.raises(ResourceNotFoundError) as error:
        fetch(path, ORIGIN, download=False)
    assert str(error.value).startswith(f"{ORIGIN} must name a file")
    return str(error.value)


def test_nothing_cached_says_what_to_do(server: Server) -> None:
    server.files["/o.json"] = b"content"
    message = refused(f"{server.url}/o.json")
    assert f"Received: '{server.url}/o.json', which is not in the cache. Download it once" in message
    assert "Checkpoint.open" in message
    assert not server.requests


def test_the_newest_cached_version_without_a_request(server: Server) -> None:
    url = f"{server.url}/o.json"
    for content in (b"old", b"new"):
        server.files["/o.json"] = content
        cached = fetch(url, ORIGIN)
        os.utime(cached, (1, 1) if content == b"old" else None)
    server.requests.clear()
    server.files["/o.json"] = b"newer still"
    assert fetch(url, ORIGIN, download=False).read_bytes() == b"new"
    assert not server.requests
    assert fetch(url, ORIGIN).read_bytes() == b"newer still"


def test_a_dead_server_does_not_matter(server: Server) -> None:
    server.files["/o.json"] = b"content"
    fetch(f"{server.url}/o.json", ORIGIN)
    server.stop()
    assert fetch(f"{server.url}/o.json", ORIGIN, download=False).read_bytes() == b"content"


def test_a_download_that_failed_leaves_nothing_to_find(server: Server) -> None:
    server.files["/o.json"], server.cut = b"content", 3
    with pytest.raises(ResourceNotFoundError):
        fetch(f"{server.url}/o.json", ORIGIN)
    assert "not in the cache" in refused(f"{server.url}/o.json")


def test_members_of_archives(server: Server, small: ElmoConfig, tmp_path: Path) -> None:
    archive = tmp_path / "model.zip"
    with zipfile.ZipFile(archive, "w") as writer:
        writer.write(small.options_file, "in/o n.json")
    server.files["/model.zip"] = archive.read_bytes()
    member = f"{server.url}/model.zip!in/o n.json"
    assert "not in the cache" in refused(member)
    assert not server.requests
    fetch(member, ORIGIN)
    server.requests.clear()
    found = fetch(member, ORIGIN, download=False)
    assert found.read_bytes() == Path(small.options_file).read_bytes()
    assert "'in/no.json' not found" in refused(f"{server.url}/model.zip!in/no.json")
    assert "is a folder" in refused(f"{server.url}/model.zip!in")
    assert not server.requests


@pytest.mark.parametrize("form", ["{}", "file://{}", "FILE_IN_ARCHIVE", "file://FILE_IN_ARCHIVE"])
def test_local_files_are_found_all_the_same(form: str, small: ElmoConfig, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "model.zip", "w") as writer:
        writer.write(small.options_file, "o.json")
    path = form.format(small.options_file).replace("FILE_IN_ARCHIVE", f"{tmp_path}/model.zip!o.json")
    assert fetch(path, ORIGIN, download=False).read_bytes() == Path(small.options_file).read_bytes()


@pytest.mark.parametrize("url", ["s3://bucket/o", "gs://bucket/o", "hf://user/repository/o", "x+y://a!b", "http://["])
def test_no_scheme_reaches_the_network(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(*arguments: Any) -> None:
        raise AssertionError(f"a connection to {arguments}")

    monkeypatch.setattr(socket, "create_connection", connect)
    monkeypatch.setattr(socket, "getaddrinfo", connect)
    assert f"Received: '{url}', which is not in the cache" in refused(url)


def test_a_named_model(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_model(tmp_path)
    name = "2x1024_128_2048cnn_1xhighway"
    monkeypatch.setenv("ELMO_MODELS_URL", server.url)
    for file, local in (("options.json", model.options_file), ("weights.hdf5", model.weight_file)):
        server.files[f"/{name}/elmo_{name}_{file}"] = Path(local).read_bytes()
    with pytest.raises(ResourceNotFoundError) as error:
        Checkpoint.open("small", download=False)
    for file in ("options.json", "weights.hdf5"):  # both in one message
        assert f"{server.url}/{name}/elmo_{name}_{file}" in str(error.value)
    assert not server.requests
    opened = Checkpoint.open("small")
    server.requests.clear()
    again = Checkpoint.open("small", download=False)
    assert again == opened
    assert again.fingerprint == Checkpoint.open(model).fingerprint
    assert not server.requests


def test_a_cached_file_is_checked(server: Server, small: ElmoConfig) -> None:
    server.files["/w.hdf5"] = b"<html>Sign in</html>"
    fetch(f"{server.url}/w.hdf5", ORIGIN)
    with pytest.raises(CheckpointError, match="HTML"):
        Checkpoint.open(ElmoConfig(small.options_file, f"{server.url}/w.hdf5"), download=False)
