"""The encoder of a small model, and programs that need a Python of their own."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import bridge
from bridge.encoder.arguments import Engine
from bridge.encoder.encoder import ElmoEncoder
from bridge.resources.config import ElmoConfig

ROOT = Path(bridge.__file__).parents[1]

RunPython = Callable[[str], str]


@pytest.fixture(scope="session", params=["fused", "allennlp"])
def engine(request: pytest.FixtureRequest) -> Engine:
    """What an encoder promises, it promises with both."""
    return request.param


@pytest.fixture(scope="session")
def encoder(small: ElmoConfig, engine: Engine) -> ElmoEncoder:
    """Not to be changed."""
    return ElmoEncoder(small, engine=engine)


@pytest.fixture
def run_python(tmp_path: Path) -> RunPython:
    """Runs a program in a fresh Python, which finds packages in `tmp_path` first; returns what it printed."""

    def run(program: str) -> str:
        # No home directory: neither ours nor AllenNLP's code may need one. Idle threads leave the cores alone.
        environment = dict(os.environ, HOME="/nonexistent", OMP_WAIT_POLICY="PASSIVE")
        environment["PYTHONPATH"] = os.pathsep.join(map(str, (tmp_path, ROOT, ROOT / "tests")))
        result = subprocess.run(
            [sys.executable, "-W", "error", "-c", program],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert result.returncode == 0, result.stderr
        return result.stdout

    return run
