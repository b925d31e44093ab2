"""Settings of the process: Keras's backend, our variables, the cache folder, secrets."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from bridge.doctor.environment import check_cache_folder, check_keras_settings, check_python, check_variables
from bridge.doctor.findings import Finding, without_secrets


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("KERAS_BACKEND", "KERAS_HOME", "TF_USE_LEGACY_KERAS", "CACHED_PATH_CACHE_ROOT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def keras_settings(home: Path, text: str | None = None) -> list[Finding]:
    if text is not None:
        (home / ".keras").mkdir()
        (home / ".keras" / "keras.json").write_text(text)
    return list(check_keras_settings())


def test_python_is_a_tested_one() -> None:
    assert [finding.status for finding in check_python()] == ["ok"]


def test_tensorflow_is_kerass_default(home: Path) -> None:
    assert [finding.status for finding in keras_settings(home)] == ["ok"]


def test_another_backend_in_keras_json(home: Path) -> None:
    (finding,) = keras_settings(home, json.dumps({"backend": "jax"}))
    assert finding.status == "problem"
    assert finding.found.startswith("Keras's backend will be 'jax' (")
    assert finding.command == "export KERAS_BACKEND=tensorflow"


def test_the_variable_wins_over_keras_json(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    (finding,) = keras_settings(home, json.dumps({"backend": "tensorflow"}))
    assert finding.status == "problem"
    assert "'torch' (KERAS_BACKEND)" in finding.found
    monkeypatch.setenv("KERAS_BACKEND", "")
    assert [finding.status for finding in check_keras_settings()] == ["ok"]


@pytest.mark.parametrize("text", ["{", "[]", '"x"'])
def test_a_broken_keras_json_is_told(home: Path, text: str) -> None:
    assert [finding.status for finding in keras_settings(home, text)] == ["note", "ok"]


def test_keras_2_in_tf_keras(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_USE_LEGACY_KERAS", "1")
    assert [(finding.status, finding.command) for finding in keras_settings(home)] == [
        ("note", "unset TF_USE_LEGACY_KERAS"),
        ("ok", None),
    ]


def test_a_slip_in_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ELMO_CONFIG", "my.ini")
    monkeypatch.setenv("ELMO_WEIGHTS_FILE", "weights.hdf5")
    monkeypatch.setenv("ELMO_TOKEN", "very secret")
    known, token, slip = check_variables()
    assert (known.status, known.found) == ("ok", "ELMO_CONFIG=my.ini.")
    assert (slip.status, slip.remedy) == ("note", "Did you mean ELMO_WEIGHT_FILE?")
    assert token.found.startswith("ELMO_TOKEN is no variable of the bridge")
    assert "secret" not in token.model_dump_json()


def test_the_cache_folder(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file where a folder must be: root may write wherever there is a folder."""
    assert [finding.status for finding in check_cache_folder()] == ["ok"]
    assert list(home.iterdir()) == []  # it makes nothing
    (home / "file").write_text("")
    monkeypatch.setenv("CACHED_PATH_CACHE_ROOT", str(home / "file" / "cache"))
    (finding,) = check_cache_folder()
    assert finding.status == "problem"
    assert "can't be written (Not a directory)" in finding.found
    assert finding.command is not None
    assert finding.command.startswith("export CACHED_PATH_CACHE_ROOT=")


def test_a_cache_folder_without_permission(
    open_folder: Path, unreadable: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    (open_folder / "home").mkdir()
    monkeypatch.setenv("CACHED_PATH_CACHE_ROOT", str(open_folder / "home" / "cache"))
    unreadable(open_folder / "home")
    (finding,) = check_cache_folder()
    assert finding.status == "problem"
    assert "(Permission denied)" in finding.found


def test_secrets_and_the_home_folder_stay_here(home: Path) -> None:
    assert without_secrets(f"{home}/a, '{home}' and {home}s/b") == f"~/a, '~' and {home}s/b"
    assert without_secrets(f"file://{home}/a") == "file://~/a"
    assert without_secrets("https://me:pass@word@host/x?sig=1&t=2 is gone") == "https://***@host/x?*** is gone"
    assert without_secrets("s3://bucket/a.json, what?") == "s3://bucket/a.json, what?"
