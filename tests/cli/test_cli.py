"""The command itself: real processes, real pipes, and what a user sees."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from commands import press_control_c, start_command
from heads.examples import labelled, tagged
from typer.testing import CliRunner

from bridge import ElmoConfig
from bridge.cli.main import app
from bridge.text.readers import Example, read_examples
from bridge.text.writers import PredictionWriter

COMMAND = [sys.executable, "-m", "bridge.cli.main"]


def write(path: Path, examples: list[Example], format: Any) -> Path:
    writer = PredictionWriter(format, "tag" if isinstance(examples[0].target, list) else "classify")
    lines = [writer.lines(item.tokens, item.target, 1.0) for item in examples]
    path.write_text(writer.header() + "".join(lines), encoding="utf-8")
    return path


class Runs:
    """A trained classifier and tagger, and the files they were trained on."""

    def __init__(self, folder: Path, config: ElmoConfig) -> None:
        self.folder = folder
        self.ini = folder / "model.ini"
        self.ini.write_text(f"[ELMO]\noptions_file = {config.options_file}\nweight_file = {config.weight_file}\n")
        self.tsv = write(folder / "train.tsv", labelled(40, 0), "tsv")
        self.conll = write(folder / "train.conll", tagged(40, 0), "conll")
        self.dev = write(folder / "dev.jsonl", labelled(20, 1), "jsonl")
        self.classifier, self.tagger = folder / "classifier", folder / "tagger"
        for train_file, run_folder in ((self.tsv, self.classifier), (self.conll, self.tagger)):
            result = self.invoke(
                "train", train_file, run_folder, "--config", self.ini, "--dev", train_file, "--epochs", 1, "--units", 4
            )
            assert result.exit_code == 0, result.output

    @staticmethod
    def invoke(*arguments: object, input: bytes | None = None) -> Any:
        return CliRunner().invoke(app, list(map(str, arguments)), input=input, catch_exceptions=False)


@pytest.fixture(scope="module")
def runs(small: ElmoConfig, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(Path(tmp_path_factory.mktemp("cli")), small)


def test_help_is_quick_and_every_option_has_some() -> None:
    code = """
import sys
from bridge.cli.main import app
assert not {"torch", "tensorflow", "keras", "numpy", "matplotlib"} & set(sys.modules)
sys.argv = ["elmo-bridge", "--help"]
app()
"""
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    for command in ("train", "evaluate", "predict"):
        assert f" {command} " in printed
    for registered in app.registered_commands:
        assert registered.callback is not None
        for name, annotation in registered.callback.__annotations__.items():
            if name != "return":
                assert "help=" in annotation or "Argument" in annotation or "Option" in annotation, name


def test_the_console_script_is_this_program() -> None:
    setup = (Path(__file__).parents[2] / "setup.cfg").read_text(encoding="utf-8")
    assert "elmo-bridge = bridge.cli.main:main\n" in setup


def test_evaluate(runs: Runs) -> None:
    result = runs.invoke("evaluate", runs.classifier, runs.dev, "--json")
    scores = json.loads(result.stdout)
    assert scores["examples"] == 20
    assert 0 <= scores["accuracy"] <= 1
    printed = runs.invoke("evaluate", runs.tagger, runs.conll).stdout
    scores = json.loads(runs.invoke("evaluate", runs.tagger, runs.conll, "--json").stdout)
    assert f"f1         {scores['f1']:.4f}" in printed
    assert "PER" in printed
    # The same as the training measured it, by another way.
    header, row = (runs.tagger / "history.csv").read_text().splitlines()
    history = dict(zip(header.split(","), row.split(","), strict=True))
    for name in ("accuracy", "f1", "precision", "recall"):
        assert scores[name] == pytest.approx(float(history[f"val_{name}"]), abs=1e-5)


@pytest.mark.parametrize("format", ["tsv", "jsonl"])
def test_what_the_classifier_predicts_can_be_evaluated(runs: Runs, tmp_path: Path, format: str) -> None:
    result = runs.invoke("predict", runs.classifier, runs.tsv, "--output-format", format)
    (tmp_path / f"predicted.{format}").write_bytes(result.stdout_bytes)
    examples = list(read_examples(tmp_path / f"predicted.{format}", task="classify"))
    assert [item.tokens for item in examples] == [item.tokens for item in labelled(40, 0)]
    scores = json.loads(runs.invoke("evaluate", runs.classifier, tmp_path / f"predicted.{format}", "--json").stdout)
    assert scores["accuracy"] == 1.0


@pytest.mark.slow
@pytest.mark.parametrize("format", ["tsv", "jsonl", "conll"])
def test_what_the_tagger_predicts_can_be_read(runs: Runs, tmp_path: Path, format: str) -> None:
    result = runs.invoke("predict", runs.tagger, runs.conll, "--output-format", format, "--batch-size", 7)
    (tmp_path / f"predicted.{format}").write_bytes(result.stdout_bytes)
    examples = list(read_examples(tmp_path / f"predicted.{format}", task="tag"))
    assert [item.tokens for item in examples] == [item.tokens for item in tagged(40, 0)]


def test_a_header_comes_with_tsv_only(runs: Runs) -> None:
    result = runs.invoke("predict", runs.classifier, input="anna went\n\n\u00c5sa , rome\n".encode())
    lines = result.stdout.split("\n")
    assert [line.split("\t")[2:] for line in lines] == [["anna went"], [], ["\u00c5sa , rome"], []]
    result = runs.invoke("predict", runs.classifier, "-", "--output-format", "tsv", input=b"anna\n")
    assert result.stdout.startswith("sentence\tlabel\tprobability\nanna\t")
    assert runs.invoke("predict", runs.tagger, input=b"").stdout == ""


@pytest.fixture(scope="module")
def stream(runs: Runs) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(
        [*COMMAND, "predict", str(runs.tagger)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    ) as process:
        yield process
        process.kill()


@pytest.mark.slow
def test_an_open_pipe_is_answered_line_by_line(stream: subprocess.Popen[bytes]) -> None:
    assert stream.stdin is not None
    assert stream.stdout is not None
    for sentence in (b"anna went to rome\n", b"\n", "\u732b\n".encode(), b"bob stein\n"):
        stream.stdin.write(sentence)
        stream.stdin.flush()
        # Would block for ever if the answer waited for more.
        assert len(stream.stdout.readline().split()) == len(sentence.split())


@pytest.mark.slow
def test_a_reader_that_goes_away_is_no_error(stream: subprocess.Popen[bytes]) -> None:
    assert stream.stdin is not None
    assert stream.stdout is not None
    assert stream.stderr is not None
    stream.stdout.close()
    stream.stdin.write(b"anna went\n")
    stream.stdin.flush()
    errors = stream.stderr.read().decode()
    assert stream.wait() == 1
    assert not [line for line in errors.splitlines() if "cudart" not in line and "absl" not in line]


@pytest.mark.slow
@pytest.mark.parametrize("command", ["train", "predict"])
def test_control_c_ends_without_a_traceback(runs: Runs, tmp_path: Path, command: str) -> None:
    arguments: dict[str, list[Any]] = {
        "train": [
            runs.tsv,
            tmp_path / "run",
            "--config",
            runs.ini,
            "--epochs",
            10000,
            "--patience",
            10000,
            "--units",
            4,
        ],
        "predict": [runs.tagger],
    }
    with start_command(command, *arguments[command]) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("anna went\n")
        process.stdin.flush()
        for _ in range(3 if command == "train" else 1):
            process.stdout.readline()
        _, errors = press_control_c(process)
    assert process.returncode == 130
    lines = [line for line in errors.splitlines() if "cudart" not in line and "absl" not in line]
    assert lines == {"train": ["interrupted; the same command with --resume continues"], "predict": []}[command]


@pytest.mark.slow
def test_errors_are_one_line_and_exit_code_1(runs: Runs) -> None:
    (runs.folder / "broken.tsv").write_text("sentence\tlabel\nno label here\n")
    finished = subprocess.run(
        [*COMMAND, "train", str(runs.folder / "broken.tsv"), str(runs.folder / "new")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 1
    assert finished.stderr.startswith("error: broken.tsv, line 2: a row must have 2 columns")
    assert finished.stderr.count("\n") == 1
    assert not (runs.folder / "new").exists()


@pytest.mark.slow
def test_a_run_is_neither_overwritten_nor_resumed_with_other_options(runs: Runs) -> None:
    def train(*more: object) -> Any:
        options = ("--config", runs.ini, "--dev", runs.tsv, "--units", 4, *more)
        return CliRunner().invoke(app, ["train", str(runs.tsv), str(runs.classifier), *map(str, options)])

    assert "--overwrite" in str(train("--epochs", 1).exception)
    assert "`settings.learning_rate` was 0.001 and is 0.1" in str(
        train("--epochs", 1, "--learning-rate", 0.1, "--resume").exception
    )
    assert train("--epochs", 1, "--resume").exit_code == 0


@pytest.mark.slow
def test_a_models_name_comes_before_a_file_of_that_name(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "demo").write_text("not an INI file")
    monkeypatch.chdir(tmp_path)
    result = runs.invoke("train", runs.tsv, tmp_path / "run", "--config", "demo", "--epochs", 1, "--units", 1)
    assert result.exit_code == 0, result.output


def test_one_label_is_nothing_to_learn(runs: Runs, tmp_path: Path) -> None:
    (tmp_path / "one.tsv").write_text("sentence\tlabel\nanna\thome\n")
    result = CliRunner().invoke(app, ["train", str(tmp_path / "one.tsv"), str(tmp_path / "run")])
    assert "two labels at least" in str(result.exception)
