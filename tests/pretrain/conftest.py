"""What the tests of training share."""

from pathlib import Path

import pytest
from pretrain.runs import run_quick, write_text


@pytest.fixture(scope="session")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text of the little language."""
    return write_text(Path(tmp_path_factory.mktemp("text")) / "text.txt")


@pytest.fixture(scope="session")
def held_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_text(Path(tmp_path_factory.mktemp("held_out")) / "held_out.txt", sentences=40, seed=1)


@pytest.fixture(scope="session")
def uninterrupted(text: Path, held_out: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 steps with a checkpoint at each tenth."""
    folder = Path(tmp_path_factory.mktemp("uninterrupted")) / "run"
    run_quick(text, folder, held_out=held_out)
    return folder
