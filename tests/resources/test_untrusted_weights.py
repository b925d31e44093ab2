"""Weight files from strangers: `Checkpoint.open` refuses them before anything is read or allocated."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from models import options_dict, random_model
from resources.hostile_weights import CELL, ELSEWHERE, HOSTILE, LINK, NAME, endless_virtual_dataset, external_link

from bridge.encoder.encoder import ElmoEncoder
from bridge.encoder.shared_weights import SharedWeights
from bridge.errors import CheckpointError
from bridge.resources.checkpoint import Checkpoint, expected_datasets
from bridge.resources.config import ElmoConfig
from bridge.resources.options import ElmoOptions


def refused(config: ElmoConfig, *words: str) -> None:
    with pytest.raises(CheckpointError) as error:
        Checkpoint.open(config)
    for word in ("must ", "Received: ", config.weight_file, *words):
        assert word in str(error.value)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_file(name: str, tmp_path: Path) -> None:
    model = random_model(tmp_path)
    change, words = HOSTILE[name]
    with h5py.File(model.weight_file, "r+") as file:
        change(file, tmp_path)
    refused(model, f"{CELL}/", words)


def test_link_of_a_kind_of_its_own(tmp_path: Path) -> None:
    """User-defined links have the numbers 65 to 255: what follows them is whatever the program has registered."""
    model = random_model(tmp_path)
    with h5py.File(model.weight_file, "r+") as file:
        external_link(file, tmp_path)
    path = Path(model.weight_file)
    content = path.read_bytes()
    assert content.count(b"\x01\x08\x40\x01B") == 1
    path.write_bytes(content.replace(b"\x01\x08\x40\x01B", b"\x01\x08\x41\x01B"))
    refused(model, NAME, LINK)


READS = """
import sys
from bridge import Checkpoint, ElmoConfig
Checkpoint.open(ElmoConfig(*sys.argv[1:]))
"""


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a POSIX system")
def test_shape_that_is_asked_of_a_pipe(tmp_path: Path) -> None:
    """Nobody writes into the pipe: a program that opens it can only be killed."""
    model = random_model(tmp_path)
    with h5py.File(model.weight_file, "r+") as file:
        endless_virtual_dataset(file, NAME, tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", READS, model.options_file, model.weight_file],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert f"{NAME}: {ELSEWHERE}" in done.stderr


def test_options_and_weights_that_claim_terabytes(tmp_path: Path) -> None:
    """They agree, and the file has some kilobytes: no number is there."""
    options = ElmoOptions.model_validate(options_dict(dim=2**31 - 1, projection_dim=512))
    (tmp_path / "o.json").write_text(options.model_dump_json())
    with h5py.File(tmp_path / "w.hdf5", "w") as file:
        for name, shape in expected_datasets(options).items():
            file.create_dataset(name, shape, "f4", chunks=tuple(min(size, 1 << 10) for size in shape))
    assert (tmp_path / "w.hdf5").stat().st_size < 1 << 20
    refused(
        ElmoConfig(str(tmp_path / "o.json"), str(tmp_path / "w.hdf5")),
        f"{CELL}/W_0: claims {1024 * 4 * (2**31 - 1) * 4} bytes, of which 0 are there",
    )


def test_weights_that_unpack_to_many_times_their_file(tmp_path: Path) -> None:
    options = ElmoOptions.model_validate(options_dict(dim=1 << 11, projection_dim=1 << 9))
    (tmp_path / "o.json").write_text(options.model_dump_json())
    with h5py.File(tmp_path / "w.hdf5", "w") as file:
        for name, shape in expected_datasets(options).items():
            file.create_dataset(name, data=np.zeros(shape, np.float32), compression="gzip", compression_opts=1)
    refused(ElmoConfig(str(tmp_path / "o.json"), str(tmp_path / "w.hdf5")), "all datasets: claim ", " as float32")


def test_one_dataset_under_many_names(tmp_path: Path) -> None:
    """Its bytes are there once, and memory is needed for each."""
    options = ElmoOptions.model_validate(options_dict(dim=100, projection_dim=50, n_layers=20))
    (tmp_path / "o.json").write_text(options.model_dump_json())
    with h5py.File(tmp_path / "w.hdf5", "w") as file:
        first: dict[tuple[int, ...], h5py.Dataset] = {}
        for name, shape in expected_datasets(options).items():
            if shape not in first:
                first[shape] = file.create_dataset(name, data=np.zeros(shape, np.float32))
            else:
                file[name] = first[shape]
    refused(ElmoConfig(str(tmp_path / "o.json"), str(tmp_path / "w.hdf5")), "all datasets: claim ")


def test_many_objects_and_attributes_are_not_looked_at(tmp_path: Path) -> None:
    model = random_model(tmp_path)
    with h5py.File(model.weight_file, "r+", libver="latest") as file:
        many = file.create_group("many")
        for number in range(1000):
            many.create_group(str(number))
            many.attrs[str(number)] = number
        many["again"] = file  # round and round
    start = time.process_time()
    assert Checkpoint.open(model)
    assert time.process_time() - start < 10  # or for ever


PLUGIN = """
#include <stdio.h>
#include <stdlib.h>
__attribute__((constructor)) static void run(void) { fclose(fopen(getenv("PROOF"), "w")); }
"""
OPENS = """
import sys, h5py
from bridge import Checkpoint, ElmoConfig
try:
    Checkpoint.open(ElmoConfig(*sys.argv[1:3]))
except ValueError as error:
    assert "filter number 305" in str(error), error
if sys.argv[3] == "read":
    with h5py.File(sys.argv[2]) as file:
        try:
            file[sys.argv[4]][:]
        except OSError:
            pass
"""


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("cc"), reason="needs a C compiler")
@pytest.mark.parametrize("how", ["open", "read"])
def test_no_plugin_is_run(how: str, tmp_path: Path) -> None:
    """HDF5 loads whatever library is in its plugin folder to see whether it has a filter, as h5py shows."""
    model = random_model(tmp_path / "model")
    with h5py.File(model.weight_file, "r+") as file:
        HOSTILE["unknown_filter"][0](file, tmp_path)
    (tmp_path / "plugin.c").write_text(PLUGIN)
    (tmp_path / "plugins").mkdir()
    subprocess.run(
        ["cc", "-shared", "-fPIC", "-o", tmp_path / "plugins" / "libplugin.so", tmp_path / "plugin.c"], check=True
    )
    proof = tmp_path / "proof"
    subprocess.run(
        [sys.executable, "-c", OPENS, model.options_file, model.weight_file, how, NAME],
        env=os.environ | {"HDF5_PLUGIN_PATH": str(tmp_path / "plugins"), "PROOF": str(proof)},
        cwd=Path(__file__).parents[2],
        check=True,
    )
    assert proof.exists() == (how == "read")


def with_numbers(model: ElmoConfig, name: str, values: dict[tuple[int, ...], float], dtype: str = "f4") -> None:
    with h5py.File(model.weight_file, "r+") as file:
        data = file[name][()].astype(dtype)
        del file[name]
        for place, value in values.items():
            data[place] = value
        file[name] = data


@pytest.mark.parametrize(
    ("name", "values", "dtype", "fault"),
    [
        (
            "char_embed",
            {(7, 2): np.nan},
            "f4",
            "1 of 1305 that are NaN, infinite or beyond float32, the first at [7, 2]",
        ),
        (f"{CELL}/W_0", {(11, 39): np.inf}, "f4", "1 of 480 that are"),
        (f"{CELL}/W_0", {(0, 0): np.nan, (11, 0): -np.inf}, "f4", "2 of 480 that are"),
        (f"{CELL}/B", {(3,): np.inf, (4,): -np.inf}, "f2", "2 of 40 that are"),
        ("CNN_high_0/W_carry", {(0, 1): 1e39}, "f8", "1 of 225 that are"),
        ("CNN/b_cnn_2", {(5,): np.nan}, "f8", "1 of 6 that are"),
        ("CNN_proj/W_proj", {(0, 0): np.nan}, "f4", "1 of 90 that are"),
    ],
)
@pytest.mark.parametrize("engine", ["fused", "allennlp", "shared"])
def test_numbers_that_are_none(
    engine: str, name: str, values: dict[tuple[int, ...], float], dtype: str, fault: str, tmp_path: Path
) -> None:
    model = random_model(tmp_path)
    with_numbers(model, name, values, dtype)
    checkpoint = Checkpoint.open(model)  # which does not read them
    read: dict[str, Callable[[], object]] = {
        "fused": lambda: ElmoEncoder(checkpoint),
        "allennlp": lambda: ElmoEncoder(checkpoint, engine="allennlp"),
        "shared": lambda: SharedWeights.of(checkpoint),
    }
    with pytest.raises(CheckpointError) as error:
        read[engine]()
    assert f"{name} has {fault}" in str(error.value)
    assert repr(model.weight_file) in str(error.value)
    assert "use another copy" in str(error.value)


@pytest.mark.parametrize("arguments", [{"fletcher32": True}, {"compression": "gzip"}], ids=str)
def test_numbers_that_are_damaged(arguments: dict[str, Any], tmp_path: Path) -> None:
    """HDF5 finds out when it reads them."""
    model = random_model(tmp_path)
    with h5py.File(model.weight_file, "r+") as file:
        values = file["char_embed"][()]
        del file["char_embed"]
        dataset = file.create_dataset("char_embed", data=values, chunks=values.shape, **arguments)
        chunk = dataset.id.get_chunk_info(0)
    path = Path(model.weight_file)
    content = bytearray(path.read_bytes())
    content[chunk.byte_offset + chunk.size // 2] ^= 0xFF
    path.write_bytes(content)
    checkpoint = Checkpoint.open(model)
    for read in (ElmoEncoder, partial(ElmoEncoder, engine="allennlp"), SharedWeights.of):
        with pytest.raises(CheckpointError) as error:
            read(checkpoint)
        for word in ("must be whole", repr(model.weight_file), "char_embed can't be read", "fetch the file again"):
            assert word in str(error.value)


def test_large_numbers_are_numbers(tmp_path: Path) -> None:
    """Their sum is not finite, and they are."""
    model = random_model(tmp_path)
    with_numbers(model, f"{CELL}/B", {(number,): 3e38 for number in range(40)})
    assert ElmoEncoder(model, engine="fused")
    assert ElmoEncoder(model, engine="allennlp")


def test_a_write_that_fails_leaves_the_old_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_model(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def fail(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(KeyboardInterrupt):
        random_model(tmp_path, seed=1)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert Checkpoint.open(model)
