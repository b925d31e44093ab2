"""The run that others are compared with."""

from pathlib import Path

import pytest
from heads.runs import run_quick


@pytest.fixture(scope="session")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = Path(tmp_path_factory.mktemp("uninterrupted")) / "run"
    run_quick(folder)
    return folder
