"""Writing and reading take as much memory for a large file as for a small one."""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import resource, sys
import numpy as np
from features.samples import metadata_of
from bridge.features.convert import convert_features
from bridge.features.parquet import ParquetWriter, read_parquet
from bridge.features.store import FeatureStore

path, form = sys.argv[1:]
metadata = metadata_of(output_dim=256)
values = np.random.default_rng(0).standard_normal((20, 3, 256)).astype(np.float32)

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

def write(path, form, sentences):
    writer = ParquetWriter(path, metadata) if form == "parquet" else FeatureStore.create(path, metadata, layout=form)
    with writer:
        for number in range(sentences):
            writer.append(values, f"sentence {number}")

def read(path, form):
    if form == "parquet":
        assert sum(len(row.features) for row in read_parquet(path)[1]) == SENTENCES * 20
        return
    with FeatureStore.open(path) as store:
        assert sum(len(features) for features in store) == SENTENCES * 20

SENTENCES = 1200
write(path + ".small", form, SENTENCES)
read(path + ".small", form)
before = peak()
SENTENCES = 8000
write(path, form, SENTENCES)
written = peak()
read(path, form)
read_back = peak()
convert_features(path, path + ".converted", layout="packed")
print(written - before, read_back - before, peak() - before)
"""


@pytest.mark.slow
@pytest.mark.parametrize("form", ["elmo", "packed", "parquet"])
def test_memory_does_not_grow_with_the_file(form: str, tmp_path: Path) -> None:
    """490 MB, after a file of 70 MB; in between, HDF5 and pyarrow fill their caches."""
    tests = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "f"), form],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": f"{tests}:{tests.parent}", "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert all(int(megabytes) < 150 for megabytes in done.stdout.split()), done.stdout
