"""scripts/wordnet.py fetches Debian's package, and says what to do where it can't."""

import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from bridge.errors import ResourceNotFoundError
from scripts import small_wordnet


def program(folder: Path, name: str, text: str) -> None:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.fixture
def not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of programs that come first in the path."""
    import wordnet

    # The package has it at the place where the system would.
    monkeypatch.setattr(wordnet, "INSTALLED", Path("/usr/share/wordnet-of-the-test"))
    programs = tmp_path / "programs"
    programs.mkdir()
    monkeypatch.setenv("PATH", str(programs), prepend=os.pathsep)
    return programs


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="the system is not Debian's")
def test_it_is_fetched_once(tmp_path: Path, not_installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import wordnet

    tree = tmp_path / "tree"
    small_wordnet.write(tree / "usr/share/wordnet-of-the-test", [(5, "n", "a beast")])
    (tree / "DEBIAN").mkdir()
    (tree / "DEBIAN/control").write_text(
        "Package: wordnet-base\nVersion: 1:3.0-0\nArchitecture: all\nMaintainer: Nobody <nobody@localhost>\n"
        "Description: a beast\n"
    )
    package = tmp_path / "wordnet-base_1%3a3.0-0_all.deb"
    subprocess.run(["dpkg-deb", "--build", tree, package], check=True, capture_output=True)
    program(not_installed, "apt-get", f'[ "$*" = "download wordnet-base" ] && cp "{package}" .')
    cache = tmp_path / "cache/package"
    folder = wordnet.wordnet_folder(cache=cache)
    assert folder == cache / "usr/share/wordnet-of-the-test"
    small_wordnet.accept(monkeypatch, folder)
    assert [synset.definition for synset in wordnet.read_synsets(folder)] == ["a beast"]
    assert [path.name for path in cache.parent.iterdir()] == ["package"]  # nothing temporary
    program(not_installed, "apt-get", "exit 1")
    assert wordnet.wordnet_folder(cache=cache) == folder


def test_it_is_not_to_be_had(tmp_path: Path, not_installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import wordnet

    program(not_installed, "apt-get", "echo E: No such package >&2; exit 100")
    program(not_installed, "dpkg-deb", "exit 2")
    with pytest.raises(
        ResourceNotFoundError, match=r"(?s)status 100, 'E: No such package'\. Try `sudo apt-get update`.*name a folder"
    ):
        wordnet.wordnet_folder(cache=tmp_path / "cache/package")
    program(not_installed, "apt-get", "touch wordnet-base.deb")
    with pytest.raises(ResourceNotFoundError, match=r"`dpkg-deb --extract .*status 2"):
        wordnet.wordnet_folder(cache=tmp_path / "cache/package")
    assert not list((tmp_path / "cache").iterdir())
    (not_installed / "apt-get").unlink()
    monkeypatch.setenv("PATH", str(not_installed))
    with pytest.raises(ResourceNotFoundError, match=r"`apt-get` must be there .*install wordnet-base"):
        wordnet.wordnet_folder(cache=tmp_path / "cache/package")
