"""`inspect`: the numbers of a checkpoint, against AllenNLP's module, the published ones, and the file itself."""

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from models import options_dict, random_model

from bridge import Checkpoint, ElmoConfig
from bridge.doctor.checkpoint_summary import CheckpointSummary, count_parameters, summarise
from bridge.doctor.summary_text import summary_lines
from bridge.encoder.elmo_import import import_elmo
from bridge.resources.options import ElmoOptions

FILTERS = ((1, 32), (2, 32), (3, 64), (4, 128), (5, 256), (6, 512), (7, 1024))


def ini(folder: Path, options_file: object, weight_file: object, *more: str) -> str:
    path = folder / "my.ini"
    path.write_text("\n".join(["[ELMO]", f"options_file = {options_file}", f"weight_file = {weight_file}", *more]))
    return str(path)


@pytest.mark.parametrize(
    ("dim", "projection_dim", "n_highway", "millions"),
    [(1024, 128, 1, 13.6), (2048, 256, 1, 28.0), (4096, 512, 2, 93.6)],
    ids=["small", "medium", "original"],
)
def test_parameters_of_the_published_models(dim: int, projection_dim: int, n_highway: int, millions: float) -> None:
    """As AllenNLP's page of pretrained models lists them."""
    options = ElmoOptions.model_validate(
        options_dict(dim=dim, projection_dim=projection_dim, n_highway=n_highway, filters=FILTERS, char_dim=16)
    )
    assert round(count_parameters(options)["total"] / 1e6, 1) == millions


@pytest.mark.parametrize("changes", [{}, {"n_layers": 1, "n_highway": 0}, {"n_layers": 3, "n_highway": 2, "dim": 7}])
def test_parameters_of_allennlps_module(tmp_path: Path, changes: dict[str, int]) -> None:
    config = random_model(tmp_path, **changes)
    summary = summarise(ini(tmp_path, config.options_file, config.weight_file))
    assert summary.problems == []
    assert summary.parameters is not None
    assert summary.options is not None
    module = import_elmo()._ElmoBiLm(config.options_file, config.weight_file)
    # The row of "no token", which no file has.
    extra = summary.options.char_cnn.embedding.dim
    assert summary.parameters["total"] == sum(part.numel() for part in module.parameters()) - extra
    assert sum(summary.parameters.values()) == 2 * summary.parameters["total"]  # no dataset in two parts, or in none


def test_the_summary_of_a_model(small: ElmoConfig, tmp_path: Path) -> None:
    summary = summarise(ini(tmp_path, small.options_file, small.weight_file))
    assert CheckpointSummary.model_validate_json(summary.model_dump_json()) == summary
    checkpoint = Checkpoint.open(small)
    assert (summary.num_layers, summary.output_dim, summary.character_rows) == (3, 12, 261)
    assert (summary.fingerprint, summary.options) == (checkpoint.fingerprint, checkpoint.options)
    for file, path in ((summary.options_file, small.options_file), (summary.weight_file, small.weight_file)):
        content = Path(path).read_bytes()
        assert file is not None
        assert (file.bytes, file.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    with h5py.File(small.weight_file) as file:
        sizes: list[int] = []
        file.visititems(lambda _, item: sizes.append(item.size) if isinstance(item, h5py.Dataset) else None)
    assert summary.parameters is not None
    assert summary.parameters["total"] == sum(sizes)
    assert summary.memory is not None
    assert summary.memory.float32_weights == 4 * sum(sizes)
    assert summary.memory.vectors_per_token == np.zeros((3, 12), dtype="float32").nbytes
    lstms = summary.parameters["forward_lstm"] + summary.parameters["backward_lstm"]
    assert summary.memory.half_weights == 4 * sum(sizes) - 2 * lstms
    assert summary.weights_dtypes == ["float32"]


def test_half_precision_files_and_both_counts_of_characters(tmp_path: Path) -> None:
    config = random_model(tmp_path, n_characters=261)
    with h5py.File(config.weight_file, "r+") as file:
        values = file["CNN_proj/b_proj"][()]
        del file["CNN_proj/b_proj"]
        file["CNN_proj/b_proj"] = values.astype("float16")
    summary = summarise(ini(tmp_path, config.options_file, config.weight_file))
    assert summary.problems == []
    assert summary.weights_dtypes == ["float16", "float32"]
    assert summary.character_rows == 261
    assert "(n_characters is 261)" in dict(summary_lines(summary))["characters"]


def test_all_problems_of_both_files(small: ElmoConfig, tmp_path: Path) -> None:
    options_file = shutil.copy(small.options_file, tmp_path)
    weight_file = shutil.copy(small.weight_file, tmp_path)
    with h5py.File(weight_file, "r+") as file:
        del file["char_embed"], file["CNN/b_cnn_1"]
    config = ini(tmp_path, options_file, weight_file, "options_sha256 = " + "0" * 64)
    summary = summarise(config)
    assert len(summary.problems) == 2
    assert summary.problems[0].startswith("`options_sha256` must be the checksum")
    assert "CNN/b_cnn_1: missing" in summary.problems[1]
    assert summary.options is not None  # it can be read all the same
    Path(options_file).write_text('{"lstm": {}}')
    summary = summarise(ini(tmp_path, options_file, weight_file))
    assert "lstm.dim: missing" in summary.problems[0]
    assert (summary.options, summary.parameters, summary.memory, summary.fingerprint) == (None,) * 4
    shutil.copy(small.options_file, options_file)
    (message,) = summarise(ini(tmp_path, options_file, weight_file)).problems
    assert "char_embed: missing" in message
    assert "CNN/b_cnn_1: missing" in message


def test_one_file_missing_and_the_other_damaged(small: ElmoConfig, tmp_path: Path) -> None:
    (tmp_path / "options.json").write_text("{")
    missing, damaged = summarise(ini(tmp_path, "options.json", "nothing.hdf5")).problems
    assert "nothing.hdf5" in missing
    assert "Invalid JSON" in damaged
    (tmp_path / "weights.hdf5").write_text("<html>")
    summary = summarise(ini(tmp_path, "nothing.json", "weights.hdf5"))
    missing, damaged = summary.problems
    assert "nothing.json" in missing
    assert "an HTML or XML page" in damaged
    assert summary.weight_file is not None
    assert summary.weight_file.bytes == 6
    assert summary_lines(summary)


def test_numbers_that_are_none(small: ElmoConfig, tmp_path: Path) -> None:
    weight_file = shutil.copy(small.weight_file, tmp_path)
    with h5py.File(weight_file, "r+") as file:
        file["CNN_proj/b_proj"][0] = np.nan
        file["char_embed"][3, 1] = np.inf
    summary = summarise(ini(tmp_path, small.options_file, weight_file))
    assert len(summary.problems) == 2
    assert summary.fingerprint is not None


def test_file_names_of_any_bytes(small: ElmoConfig, tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"\xff")
    folder.mkdir()
    shutil.copy(small.options_file, folder)
    (folder / "my.ini").write_text("[ELMO]\noptions_file = options.json\nweight_file = none.hdf5\n")
    summary = summarise(str(folder / "my.ini"))
    assert summary.options_file is not None
    assert summary.options_file.path == f"{tmp_path}/\\udcff/options.json"
    assert len(summary.problems) == 1


def test_a_config_that_is_none() -> None:
    summary = summarise("nowhere.ini")
    assert len(summary.problems) == 1
    assert summary_lines(summary) == [("config", "nowhere.ini")]


def test_a_file_without_permission(small: ElmoConfig, open_folder: Path, unreadable: Callable[[Path], None]) -> None:
    options_file = Path(shutil.copy(small.options_file, open_folder))
    weight_file = Path(shutil.copy(small.weight_file, open_folder))
    config = ini(open_folder, options_file, weight_file)
    unreadable(weight_file)
    summary = summarise(config)
    assert ["must be readable" in message for message in summary.problems] == [True]
    assert summary.weight_file is None
    assert summary.parameters is not None
