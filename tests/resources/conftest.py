"""What the tests of `bridge.resources` share."""

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from resources.http_server import Server


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other users can enter, as pytest's own are not."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture
def unreadable(open_folder: Path) -> Iterator[Callable[[Path], None]]:
    """Takes a path in `open_folder` away. Root reads everything all the same, so it goes on as another user."""
    if not hasattr(os, "geteuid"):
        pytest.skip("needs the users and permissions of a POSIX system")
    user, hidden = os.geteuid(), []

    def hide(path: Path) -> None:
        path.chmod(0)
        hidden.append(path)
        if user == 0:
            os.seteuid(65534)  # nobody

    yield hide
    os.seteuid(user)
    for path in hidden:
        path.chmod(0o700)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The test's own cache folder."""
    monkeypatch.setattr("cached_path.common.CACHE_DIRECTORY", tmp_path / "cache")
    # cached_path sleeps half a minute between its five attempts.
    monkeypatch.setattr("urllib3.util.retry.Retry.sleep", lambda *_: None)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return tmp_path / "cache"


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.stop()
