"""`elmo-bridge embed` and `convert`: real processes, the options of AllenNLP's command, and what a user sees."""

import io
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import pytest
from commands import press_control_c, start_command
from corpus.allennlp_oracle import allennlp_layers

from bridge import ElmoConfig
from bridge.cli.main import main

TEXT = "the cat sat\n\nand / or\r\nthe cat sat\n"


class Result(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


def run(*arguments: object, input: bytes = b"", **environment: str) -> Result:
    """The command, in this process: importing PyTorch takes longer than most of it."""
    with pytest.MonkeyPatch.context() as patch:
        stdout, stderr = io.StringIO(), io.StringIO()
        patch.setattr(sys, "argv", ["elmo-bridge", *map(str, arguments)])
        patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(input)))
        patch.setattr(sys, "stdout", stdout)
        patch.setattr(sys, "stderr", stderr)
        for name, value in environment.items():
            patch.setenv(name, value)
        with pytest.raises(SystemExit) as end:
            main()
    return Result(int(end.value.code or 0), stdout.getvalue(), stderr.getvalue())


@pytest.fixture
def text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_bytes(TEXT.encode())
    return tmp_path / "text.txt"


def test_a_script_of_allennlps_command(text: Path, small: ElmoConfig) -> None:
    """Every option that it had."""
    weights = ["--options-file", small.options_file, "--weight-file", small.weight_file]
    others = ["--batch-size", 2, "--cuda-device", -1, "--file-friendly-logging", "--vocab-path", "unread.txt"]
    result = run("embed", *weights, *others, "--include-package", "mine", "--all", "text.txt", "out.hdf5")
    assert result.returncode == 0, result.stderr
    wanted = allennlp_layers(small, [line.split() for line in TEXT.split("\n")[:4]])
    with h5py.File("out.hdf5") as file:
        for number, values in enumerate(wanted):
            assert file[str(number)].dtype == np.float32
            np.testing.assert_allclose(file[str(number)][()], values, rtol=0, atol=1e-5)
        assert json.loads(file["sentence_to_index"][0]) == {"the cat sat": "3", "": "1", "and / or": "2"}
    assert "--vocab-path has no effect" in result.stderr
    assert "empty lines, which have no vectors: 1\n" in result.stderr
    assert result.stdout == "out.hdf5: 4 sentences, 9 tokens\n"


def test_top_average_sentence_keys_and_forgetting(text: Path, small: ElmoConfig) -> None:
    weights = ["--options-file", small.options_file, "--weight-file", small.weight_file]
    wanted = allennlp_layers(small, [["the", "cat", "sat"]])[0]
    for option, right in (("--top", wanted[-1]), ("--average", wanted.mean(axis=0))):
        result = run("embed", *weights, option, "--use-sentence-keys", "--overwrite", "text.txt", "out.hdf5")
        assert result.returncode == 0, result.stderr
        with h5py.File("out.hdf5") as file:
            assert set(file) == {"the cat sat", "and %2F or"}
            np.testing.assert_allclose(file["the cat sat"][()], right, rtol=0, atol=1e-5)
    result = run("embed", *weights, "--top", "--forget-sentences", "text.txt", "other.hdf5")
    assert result.returncode == 0, result.stderr
    with h5py.File("other.hdf5") as file:
        assert set(file) == {"0", "1", "2", "3"}


def test_the_standard_input_to_parquet_and_back(text: Path, small: ElmoConfig) -> None:
    ini = Path("model.ini")
    ini.write_text(f"[ELMO]\noptions_file = {small.options_file}\nweight_file = {small.weight_file}\n")
    result = run("embed", "--all", "--config", ini, "-", "out.parquet", input=TEXT.encode())
    assert result.returncode == 0, result.stderr
    result = run("embed", "--all", "text.txt", "direct.hdf5", ELMO_CONFIG=str(ini))
    assert result.returncode == 0, result.stderr
    result = run("convert", "out.parquet", "back.hdf5", "--layout", "elmo")
    assert result.returncode == 0, result.stderr
    with h5py.File("back.hdf5") as back, h5py.File("direct.hdf5") as direct:
        assert set(back) == set(direct)
        for number in range(4):
            np.testing.assert_allclose(back[str(number)][()], direct[str(number)][()], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["text.txt", "out.hdf5", "--config", "INI"], "one of --all, --top and --average must be given"),
        (["text.txt", "out.hdf5", "--all", "--top", "--config", "INI"], "Received: --all, --top"),
        (["text.txt", "out.hdf5", "--all"], "--config original"),
        (["text.txt", "out.hdf5", "--all", "--weight-file", "w.hdf5"], "`options_file`"),
        (["text.txt", "out.hdf5", "--all", "--config", "INI", "--options-file", "o.json"], "--config"),
        (["none.txt", "out.hdf5", "--all", "--config", "INI"], "none.txt"),
        (["text.txt", "no/out.hdf5", "--all", "--config", "INI"], "in a folder that exists"),
        (["text.txt", "out.hdf5", "--all", "--config", "INI", "--state", "carry", "--resume"], "resume"),
        (["text.txt", "out", "--all", "--config", "INI", "--runner", "ray", "--state", "carry"], "carry"),
        (["text.txt", "out", "--all", "--config", "INI", "--runner", "ray", "--format", "hdf5"], "--format"),
        (["text.txt", "out", "--all", "--config", "INI", "--num-actors", "2"], "--runner ray"),
    ],
)
def test_what_is_wrong_is_one_line(text: Path, small: ElmoConfig, arguments: list[str], message: str) -> None:
    Path("model.ini").write_text(f"[ELMO]\noptions_file = {small.options_file}\nweight_file = {small.weight_file}\n")
    result = run("embed", *(argument.replace("INI", "model.ini") for argument in arguments))
    assert result.returncode in (1, 2)
    told = " ".join(result.stderr.replace("│", " ").split())  # typer breaks lines in a box
    assert message in told
    assert "Traceback" not in result.stderr
    assert {path.name for path in Path().iterdir()} == {"text.txt", "model.ini"}


@pytest.mark.slow
def test_control_c_and_resume(text: Path, small: ElmoConfig) -> None:
    with open("text.txt", "w") as file:
        file.writelines(f"the cat sat on {number}\n" for number in range(200_000))
    weights = ["--options-file", small.options_file, "--weight-file", small.weight_file, "--resume"]
    arguments = ["embed", "--top", "--layout", "packed", *weights, "text.txt", "out.hdf5"]
    with start_command(*arguments) as process:
        while not list(Path("out.hdf5.partial").glob("segment-*[0-9].npz")):  # whole ones
            assert process.poll() is None
            time.sleep(0.05)
        _, errors = press_control_c(process, again=8)
    assert process.returncode == 130
    assert "interrupted; the same command with --resume continues" in errors
    assert "Error" not in errors
    with start_command(*arguments) as process:
        _, errors = process.communicate(timeout=280)
    assert process.returncode == 0
    assert "sentences that were there already: " in errors
    with h5py.File("out.hdf5") as packed:
        assert packed["offsets"].shape == (200_001,)
        assert packed["offsets"][-1] == 1_000_000


def test_a_log_has_lines_and_no_bar(text: Path, small: ElmoConfig) -> None:
    weights = ["--options-file", small.options_file, "--weight-file", small.weight_file]
    result = run("embed", "--all", *weights, "text.txt", "out.hdf5")
    assert "\x1b" not in result.stderr
    assert "tokens/s" in result.stderr
    assert "cache hits" in result.stderr


def test_help_imports_nothing_heavy() -> None:
    code = """
import sys
from typer.testing import CliRunner
from bridge.cli.main import app
for command in ([], ["embed"], ["convert"], ["train"]):
    assert CliRunner().invoke(app, [*command, "--help"]).exit_code == 0
heavy = {"torch", "tensorflow", "keras", "numpy", "h5py", "pyarrow", "ray", "cached_path"}
heavy &= set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
def test_embedding_imports_no_tensorflow(text: Path, small: ElmoConfig) -> None:
    code = f"""
import sys
from bridge.cli.main import main
weights = ["--options-file", {small.options_file!r}, "--weight-file", {small.weight_file!r}]
sys.argv = ["elmo-bridge", "embed", "--all", *weights, "text.txt", "out.hdf5"]
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
heavy = {{"tensorflow", "keras", "ray", "pyarrow", "pandas", "matplotlib"}} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_options_are_documented() -> None:
    from typer.testing import CliRunner

    from bridge.cli.main import app

    shown: Any = CliRunner().invoke(app, ["embed", "--help"], env={"COLUMNS": "200"}).output
    options = (
        "all top average options-file weight-file batch-size cuda-device forget-sentences use-sentence-keys config"
    )
    more = "format dtype state precision compression resume max-tokens runner overwrite on-error layout"
    for option in f"{options} {more}".split():
        assert f"--{option}" in shown
