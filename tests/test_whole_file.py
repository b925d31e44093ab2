"""Files that are there as a whole or not at all."""

import os
from pathlib import Path

import pytest

from bridge.whole_file import put_in_place, write_file


def test_a_file_appears_when_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    path.write_text("older")

    def write(partial: Path) -> None:
        assert (partial.parent, partial.suffix) == (tmp_path, ".keras")  # Keras looks at it
        partial.write_text("newer")
        assert path.read_text() == "older"

    write_file(path, write)
    assert path.read_text() == "newer"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "f.txt"
    path.write_text("older")

    def write(partial: Path) -> None:
        partial.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_file(path, write)
    assert path.read_text() == "older"
    assert list(tmp_path.iterdir()) == [path]


def test_the_file_and_then_its_folder_are_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or a power cut after the renaming could leave an empty file, or none."""
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.readlink(f"/proc/self/fd/{descriptor}")))
    write_file(tmp_path / "f.txt", lambda partial: partial.write_text("text"))
    assert synced == [str(tmp_path / "f.partial.txt"), str(tmp_path)]


def test_folders_are_put_in_place_too(tmp_path: Path) -> None:
    (tmp_path / "partial").mkdir()
    put_in_place(tmp_path / "partial", tmp_path / "whole")
    assert [path.name for path in tmp_path.iterdir()] == ["whole"]
