"""Four processes with one weight file and one cache: downloads at once, and the same numbers everywhere."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from load.programs import ROOT
from models import random_model
from resources.http_server import Server

from bridge import ElmoEncoder, batch_to_ids

SENTENCES = [["The", "cat", "sat"], ["Hello"]]
PROGRAM = """
import sys
import numpy as np
from bridge import ElmoConfig, ElmoEncoder, batch_to_ids

print("imported", flush=True)
sys.stdin.readline()  # all at once
encoder = ElmoEncoder(ElmoConfig(sys.argv[1], sys.argv[2]))
ids = batch_to_ids([["The", "cat", "sat"], ["Hello"]])
for _ in range(20):
    vectors = encoder(ids).activations.numpy()
np.save(sys.argv[3], vectors)
"""


def together(tmp_path: Path, options_file: str, weight_file: str) -> list[np.ndarray]:
    """What four processes make of the same files."""
    outputs = [tmp_path / f"{number}.npy" for number in range(4)]
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "CACHED_PATH_CACHE_ROOT": str(tmp_path / "cache"),
        "NO_PROXY": "127.0.0.1",
    }
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, options_file, weight_file, str(output)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for output in outputs
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "imported\n"
        ends = [process.stdin for process in processes]
        for end in ends:
            assert end is not None
            end.write("\n")
            end.flush()
        for process in processes:
            _, errors = process.communicate(timeout=120)
            assert process.returncode == 0, errors
    finally:
        for process in processes:
            process.kill()
    return [np.load(output) for output in outputs]


@pytest.mark.slow
@pytest.mark.parametrize("source", ["files", "downloads"])
def test_four_processes_share_files_and_a_cache(source: str, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    config = random_model(tmp_path / "model", dim=128, projection_dim=64)
    wanted = ElmoEncoder(config, engine="allennlp")(batch_to_ids(SENTENCES)).activations.numpy()
    if source == "files":
        received = together(tmp_path, str(config.options_file), str(config.weight_file))
    else:
        server = Server()
        try:
            names = [Path(str(file)).name for file in (config.options_file, config.weight_file)]
            server.files = {f"/{name}": (tmp_path / "model" / name).read_bytes() for name in names}
            received = together(tmp_path, *(f"{server.url}/{name}" for name in names))
            # One of them downloads, the others wait for it, and nothing half-written stays.
            assert sorted(request for request in server.requests if request.startswith("GET")) == [
                f"GET /{name}" for name in names
            ]
        finally:
            server.stop()
        cached = [path.suffix for path in (tmp_path / "cache").iterdir()]
        assert (len(cached), cached.count(".json"), cached.count(".lock")) == (6, 2, 2)
    for vectors in received:
        np.testing.assert_allclose(vectors, wanted, atol=1e-5)
