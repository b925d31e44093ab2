"""INI files from strangers: they name files, and no more comes of them."""

from pathlib import Path

import pytest

from bridge.errors import ConfigError
from bridge.resources.config import ElmoConfig


@pytest.mark.parametrize(
    "value",
    [
        "https://h/${SECRET}",
        "https://${SECRET}.h/a",
        "s3://b/a?${SECRET}",
        "${MIRROR}/${SECRET}",
        "${MIRROR}.h/a",  # would hand the password of a proxy to another server
        "${MIRROR}${SECRET}",
    ],
)
def test_no_variable_is_sent_to_a_server(value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "12345")
    monkeypatch.setenv("MIRROR", "https://user:password@h/m")
    path = tmp_path / "elmo.ini"
    path.write_text(f"[ELMO]\noptions_file = o\nweight_file = {value}\n")
    with pytest.raises(ConfigError) as error:
        ElmoConfig.load(path)
    for word in ("must stand at its beginning", f"Received: {value!r}", "line 3", "Write the URL itself"):
        assert word in str(error.value)
    assert "12345" not in str(error.value)


def test_a_variable_in_the_middle_need_not_be_set_to_be_refused(tmp_path: Path) -> None:
    path = tmp_path / "elmo.ini"
    path.write_text("[ELMO]\noptions_file = o\nweight_file = https://h/${NO_SUCH_VARIABLE}\n")
    with pytest.raises(ConfigError, match="must stand at its beginning"):
        ElmoConfig.load(path)


def test_a_variable_may_be_a_whole_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZIP", "https://h/a.zip")
    path = tmp_path / "elmo.ini"
    path.write_text("[ELMO]\noptions_file = ${ZIP}!o.json\nweight_file = ${ZIP}!w.hdf5\n")
    assert ElmoConfig.load(path).options_file == "https://h/a.zip!o.json"


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "elmo.ini"
    with open(path, "wb") as file:
        file.truncate(1 << 40)  # of which the disk holds nothing
    with pytest.raises(ConfigError, match=r"must be an INI file.*more than 1048576 bytes"):
        ElmoConfig.load(path)


@pytest.mark.parametrize(
    "text",
    ["[" * 10**5, "[ELMO]\n" + "a = b\n" * 10**4, "[s]\n" * 2, "[ELMO]\n" + "\n".join(f"k{i}=v" for i in range(10**4))],
    ids=["brackets", "duplicates", "sections", "keys"],
)
def test_nonsense_is_a_config_error(text: str, tmp_path: Path) -> None:
    path = tmp_path / "elmo.ini"
    path.write_text(text)
    with pytest.raises(ConfigError) as error:
        ElmoConfig.load(path)
    assert len(str(error.value)) < 3000
