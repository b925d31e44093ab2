"""The config and the files: what doctor says of each way to be wrong."""

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from bridge import ElmoConfig
from bridge.doctor.files import as_arguments, check_files, is_demo, resolve_config
from bridge.doctor.findings import Finding


@pytest.fixture
def copy(small: ElmoConfig, tmp_path: Path) -> ElmoConfig:
    """A model to damage."""
    return ElmoConfig(*(str(shutil.copy(file, tmp_path)) for file in (small.options_file, small.weight_file)))


def findings_of_files(config: ElmoConfig) -> list[Finding]:
    return [item for item in check_files(as_arguments(config), False) if isinstance(item, Finding)]


def test_nothing_named_is_the_demo_with_a_note() -> None:
    config, (finding,) = resolve_config(None)
    assert config is not None
    assert is_demo(config)
    assert (finding.status, finding.remedy) == ("note", "Name yours with --config.")


def test_the_environment_names_weights(small: ElmoConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ini = tmp_path / "my.ini"
    ini.write_text(f"[ELMO]\noptions_file = {small.options_file}\nweight_file = {small.weight_file}\n")
    monkeypatch.setenv("ELMO_CONFIG", str(ini))
    config, (finding,) = resolve_config(None)
    assert config == small
    assert not is_demo(small)
    assert finding.status == "ok"
    assert str(ini) in finding.found


@pytest.mark.parametrize("config", ["nowhere.ini", "orignal", ""])
def test_a_config_that_is_none(config: str) -> None:
    resolved, (finding,) = resolve_config(config)
    assert resolved is None
    assert (finding.check, finding.status) == ("config", "problem")
    assert "named models" in finding.found


def test_a_name_of_any_bytes() -> None:
    resolved, (finding,) = resolve_config("\udcff.ini")
    assert resolved is None
    assert "\\udcff.ini" in finding.found


def test_half_an_environment_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ELMO_WEIGHT_FILE", "weights.hdf5")
    resolved, (finding,) = resolve_config(None)
    assert resolved is None
    assert "no ELMO_OPTIONS_FILE" in finding.found


def test_sound_files(small: ElmoConfig) -> None:
    (finding,) = findings_of_files(small)
    assert finding.status == "ok"
    assert finding.found.startswith("Options and weights belong together (0.")


def test_a_missing_file(copy: ElmoConfig) -> None:
    Path(copy.weight_file).unlink()
    (finding,) = findings_of_files(copy)
    assert finding.status == "problem"
    assert "weight_file" in finding.found
    assert copy.weight_file in finding.found


def test_both_files_damaged_is_one_list(copy: ElmoConfig) -> None:
    Path(copy.options_file).write_text("{")
    Path(copy.weight_file).write_bytes(Path(copy.weight_file).read_bytes()[:500])
    options, weights = findings_of_files(copy)
    assert (options.status, weights.status) == ("problem", "problem")
    assert "Invalid JSON" in options.found
    assert "truncated HDF5 file" in weights.found


def test_every_nan_is_told(copy: ElmoConfig) -> None:
    with h5py.File(copy.weight_file, "r+") as file:
        file["CNN_proj/W_proj"][2, 1] = np.nan
        file["char_embed"][260, 0] = -np.inf
    faults = findings_of_files(copy)
    assert [finding.status for finding in faults] == ["problem", "problem"]
    assert "char_embed" in faults[0].found
    assert "CNN_proj/W_proj" in faults[1].found


# cached_path's Google client says so while it is imported.
@pytest.mark.filterwarnings("ignore:Please install grpcio-status:ImportWarning")
def test_weights_that_are_not_downloaded_are_a_note(tmp_path: Path) -> None:
    (finding,) = findings_of_files(ElmoConfig("https://example.invalid/o.json", "https://example.invalid/w.hdf5"))
    assert (finding.status, finding.command) == ("note", "elmo-bridge doctor --download")
    findings = findings_of_files(ElmoConfig(str(tmp_path / "no.json"), "https://example.invalid/w.hdf5"))
    assert [finding.status for finding in findings] == ["problem", "problem"]
