"""The table of versions is that of setup.cfg and constraints.txt, and deviations are said."""

import configparser
import re
import sys
from pathlib import Path

import pytest
from doctor.fakes import package

from bridge.doctor.versions import check_packages
from bridge.packages import INSTALL_COMMAND, PACKAGES, Package, installed_version, numbers

ROOT = Path(__file__).parents[2]


def minimums_of_setup() -> dict[str, tuple[str, str]]:
    """Package to its minimum and, if it is of extras alone, the smallest of them (`ray` has pyarrow too)."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    lists = {"": parser["options"]["install_requires"], **parser["options.extras_require"]}
    del lists["dev"]
    found: dict[str, tuple[str, str]] = {}
    for extra, lines in lists.items():
        for line in lines.split():
            match = re.fullmatch(r"([\w-]+)(?:\[\w+\])?>=([\d.]+)", line)
            assert match is not None, line
            found.setdefault(match[1], (match[2], extra))
    return found


def test_minimums_are_those_of_setup() -> None:
    table = {item.name: (item.minimum, item.extra) for item in PACKAGES if item.name != "allennlp"}
    assert table == minimums_of_setup()


def test_tested_versions_are_those_of_constraints() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").replace("_", "-").split()
    constraints = dict(line.split("==") for line in lines if "==" in line)
    for item in PACKAGES:
        if item.name == "allennlp":
            assert INSTALL_COMMAND.endswith(f"allennlp=={item.tested}")
        else:
            assert constraints[item.name] == item.tested, item.name


@pytest.mark.parametrize(
    ("version", "wanted"),
    [("2.13.0+cpu", (2, 13)), ("13", (13,)), ("1.26.4", (1, 26, 4)), ("3.0.0rc1", (3,)), ("git", ())],
)
def test_numbers(version: str, wanted: tuple[int, ...]) -> None:
    assert numbers(version) == wanted


def test_this_environment_has_no_problem() -> None:
    """Notes it may have: other versions than those of constraints.txt are tried too."""
    statuses = {finding.status for finding in check_packages()}
    assert "problem" not in statuses
    assert statuses & {"ok", "note"}


def test_old_new_and_unknown_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package(tmp_path, "keras", version="2.15.0")
    package(tmp_path, "tensorflow", version="2.99.0")
    package(tmp_path, "seqeval", version="1.2.2")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(sys.modules, "allennlp", None)
    monkeypatch.setitem(sys.modules, "ray", None)
    found = {finding.found.split()[0]: finding for finding in check_packages() if finding.status != "ok"}
    assert sorted(found) == ["allennlp", "keras", "ray", "tensorflow"]
    assert found["keras"].status == "problem"
    assert found["keras"].found == "keras 2.15.0 is too old: the bridge needs 3.5 or newer."
    assert found["keras"].command == 'pip install "keras>=3.5,<=3.15.1"'
    assert (found["tensorflow"].status, found["tensorflow"].command) == ("note", None)
    assert found["tensorflow"].found == "tensorflow is 2.99.0; 2.21.0 was tested."
    assert (found["allennlp"].status, found["allennlp"].command) == ("problem", INSTALL_COMMAND)
    assert (found["ray"].status, found["ray"].command) == ("skipped", 'pip install "elmo-keras-bridge[ray]"')


def test_a_folder_has_no_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(package(tmp_path, "no_such_thing")))
    assert installed_version(Package("no-such-thing", "1", "1")) == "unknown"
    assert installed_version(Package("neither-this", "1", "1")) is None
