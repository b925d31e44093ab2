"""`elmo-bridge doctor` and `inspect`, as a user runs them."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from commands import press_control_c, start_command
from doctor.fakes import package, without_packages
from typer.testing import CliRunner

from bridge import ElmoConfig, __version__
from bridge.cli.main import app
from bridge.doctor.findings import Report, note, ok, problem
from bridge.doctor.report import print_report

COMMAND = [sys.executable, "-m", "bridge.cli.main"]
HEAVY = ("torch", "tensorflow", "keras", "allennlp", "h5py", "numpy")


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )


def report_of(result: subprocess.CompletedProcess[str]) -> Report:
    report = Report.model_validate_json(result.stdout)
    assert json.loads(result.stdout) == report.model_dump(mode="json")  # nothing is lost or added on the way
    assert result.returncode == (1 if report.problems else 0), result.stderr
    assert report.problems == sum(finding.status == "problem" for finding in report.findings)
    return report


def test_doctor_works_where_nothing_does(tmp_path: Path) -> None:
    """Not one of the packages that it asks about can be imported."""
    result = run("doctor", "--json", PYTHONPATH=str(without_packages(tmp_path, *HEAVY)), HOME=str(tmp_path))
    report = report_of(result)
    missing = {finding.found.split()[0]: finding.command for finding in report.findings if finding.status == "problem"}
    assert sorted(missing) == sorted(HEAVY)
    assert missing["allennlp"] == "pip install --no-deps allennlp==2.10.1"
    assert missing["numpy"] == 'pip install "numpy>=1.26,<=2.4.6"'
    assert {report.packages[name] for name in HEAVY} == {None}
    skipped = {finding.check: finding.found for finding in report.findings if finding.status == "skipped"}
    assert skipped["sentences"] == "Needs allennlp, h5py, numpy, torch, keras, tensorflow, which can't be imported."
    assert skipped["import order"] == "Needs allennlp, h5py, numpy, torch, tensorflow, which can't be imported."
    assert skipped["files"] == "Needs h5py, numpy, which can't be imported."
    assert report.bridge_version == __version__
    assert "Traceback" not in result.stderr
    assert "checking packages: 6 problems (" in result.stderr


@pytest.mark.slow
def test_a_sound_environment(small: ElmoConfig, tmp_path: Path) -> None:
    """And weights of the user's own."""
    ini = tmp_path / "my.ini"
    ini.write_text(f"[ELMO]\noptions_file = {small.options_file}\nweight_file = {small.weight_file}\n")
    report = report_of(run("doctor", "--json", ELMO_CONFIG=str(ini)))
    assert [finding for finding in report.findings if finding.status == "problem"] == []
    assert report.config == str(small)
    statuses = {finding.check: finding.status for finding in report.findings}
    assert (statuses["config"], statuses["files"], statuses["your weights"]) == ("ok", "ok", "ok")
    orders = [finding for finding in report.findings if finding.check == "import order"]
    assert [finding.found for finding in orders if "bridge" in finding.found] == [
        "bridge, torch, tensorflow: works.",
        "tensorflow, torch, bridge: works.",
    ]
    assert sum(finding.check == "sentences" for finding in report.findings) == 5
    assert not [finding for finding in report.findings if finding.status == "skipped"]


@pytest.mark.slow
def test_broken_parts_and_own_weights(small: ElmoConfig, tmp_path: Path) -> None:
    """A PyTorch that aborts, another Keras backend and damaged weights, all in one report, as text."""
    package(tmp_path, "torch", "import os\nos.abort()", version="2.13.0")
    weight_file = tmp_path / "weights.hdf5"
    weight_file.write_bytes(Path(small.weight_file).read_bytes()[:1000])
    ini = tmp_path / "my.ini"
    ini.write_text(f"[ELMO]\noptions_file = {small.options_file}\nweight_file = {weight_file}\n")
    result = run(
        "doctor", "--config", str(ini), PYTHONPATH=str(tmp_path), KERAS_BACKEND="jax", HOME=str(tmp_path), COLUMNS="200"
    )
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    well, *problems = result.stdout.split("\nproblem ")
    assert "python" in well
    by_check = {text.split("\n")[0].split(None, 1)[1]: text for text in problems}
    assert "export KERAS_BACKEND=tensorflow" in by_check["keras settings"]
    assert "truncated HDF5 file" in by_check["files"]
    assert "Not run, because of Keras's settings." in well
    for check in ("frameworks", "import order bridge, torch, tensorflow"):
        assert "killed by SIGABRT at 'import" in by_check[check] or "SIGABRT at 'ElmoEncoder" in by_check[check]
    assert str(tmp_path) not in result.stdout  # the home folder
    assert result.stdout.rstrip().splitlines()[-1].startswith(f"{len(problems)} problems, in ")


@pytest.mark.slow
def test_ctrl_c_ends_the_processes_too(tmp_path: Path) -> None:
    with start_command("doctor", env={**os.environ, "TMPDIR": str(tmp_path)}) as process:
        while len(list(tmp_path.iterdir())) < 2:  # two checks run
            assert process.poll() is None
            time.sleep(0.05)
        time.sleep(0.5)
        stdout, stderr = press_control_c(process)
    assert process.returncode not in (0, None)
    assert stdout == ""
    assert "Traceback" not in stderr
    assert list(tmp_path.iterdir()) == []


def invoke(*arguments: object) -> Any:
    return CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)


def test_inspect(small: ElmoConfig, tmp_path: Path) -> None:
    result = invoke("inspect", "demo")
    assert result.exit_code == 0
    assert "parameters     680,352: character embedding 4,176, " in result.stdout
    summary = json.loads(invoke("inspect", "demo", "--json").stdout)
    assert summary["parameters"]["total"] == 680_352
    assert (summary["schema_version"], summary["problems"]) == (1, [])

    ini = tmp_path / "my.ini"
    ini.write_text(f"[ELMO]\noptions_file = {small.weight_file}\nweight_file = {small.options_file}\n")
    result = invoke("inspect", ini)
    assert result.exit_code == 1
    assert result.stderr.count("problem: ") == 2
    assert result.stderr.count("swapped?") == 2
    assert len(json.loads(invoke("inspect", ini, "--json").stdout)["problems"]) == 2


def test_inspect_imports_nothing_heavy() -> None:
    code = """
import sys
from typer.testing import CliRunner
from bridge.cli.main import app
assert CliRunner().invoke(app, ["inspect", "demo"]).exit_code == 0
assert not {"torch", "tensorflow", "keras", "allennlp", "cached_path"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_text_of_a_report_has_the_problems_last(capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    findings = [problem("b", "bad [ELMO] :smile:", "Mend it.", "pip x"), note("n", "so", "hm"), ok("o", "fine")]
    report = Report(
        bridge_version="1",
        python="3",
        platform="p",
        packages={},
        config="demo",
        seconds=3.2,
        problems=1,
        findings=findings,
    )
    print_report(report, Console(emoji=False, highlight=False, markup=False, width=80))
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        "ok      o               fine",
        "note    n               so",
        "        hm",
        "",
        "problem 1  b",
        "bad [ELMO] :smile:",
        "        Mend it.",
        "          pip x",
        "",
        "1 problem, in 3 s.",
    ]
