"""`elmo-bridge pretrain`."""

import json
import os
import pty
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from commands import press_control_c, start_command
from models import options_dict
from pretrain.runs import history, write_text
from typer.testing import CliRunner

from bridge import Checkpoint, ElmoConfig, ElmoEncoder
from bridge.cli.main import app
from bridge.errors import CheckpointError, InputValueError, UnsupportedError
from bridge.pretrain.batches import TrainingBatches
from bridge.pretrain.vocabulary import Vocabulary

QUICK = ("--epochs", 1, "--batch-size", 10, "--unroll-steps", 10, "--checkpoint-steps", 5)


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_text(Path(tmp_path_factory.mktemp("pretrain")) / "text.txt")


def invoke(*arguments: object, check: bool = True) -> Any:
    result = CliRunner().invoke(app, ["pretrain", *map(str, arguments)])
    if check:
        assert result.exit_code == 0, (result.output, result.exception)
    return result


def options_file(folder: Path, **training: Any) -> Path:
    path = folder / "options.json"
    path.write_text(json.dumps({**options_dict(n_characters=261), **training}))
    return path


def test_from_text_to_an_encoder(text: Path, tmp_path: Path) -> None:
    result = invoke(text, tmp_path / "run", "--size", "tiny", "--held-out", text, "--held-out", text, *QUICK)
    assert result.stdout.startswith(f"{tmp_path / 'run' / 'elmo.ini'}: 9 steps, held-out perplexity ")
    assert "300 sentences, 600 tokens" in result.stderr
    assert [row["step"] for row in history(tmp_path / "run")] == ["5", "9"]
    assert ElmoEncoder(tmp_path / "run" / "elmo.ini").embed([["a", "x"]])[0].shape == (2, 3, 32)
    again = invoke(text, tmp_path / "run", "--size", "tiny", "--held-out", text, "--held-out", text, *QUICK, "--resume")
    assert "nothing was trained" in again.stderr
    assert again.stdout == result.stdout


def test_several_inputs_and_globs(text: Path, tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text(text.read_text())
    result = invoke(text, tmp_path / "*.txt", tmp_path / "run", "--size", "tiny", *QUICK)
    assert "900 sentences, 1,800 tokens" in result.stderr


def test_training_keys_of_an_options_file(text: Path, tmp_path: Path) -> None:
    keys = {"dropout": 0.3, "batch_size": 7, "unroll_steps": 5, "n_epochs": 3, "all_clip_norm_val": 2.5}
    file = options_file(tmp_path, **keys, bidirectional=True, n_train_tokens=768648884, n_tokens_vocab=793471)
    result = invoke(text, tmp_path / "run", "--options-file", file, "--unroll-steps", 15, "--epochs", 1)
    assert f"from {file}: dropout 0.3, batch_size 7, max_norm 2.5\n" in result.stderr
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    arguments = {
        name: run["arguments"][name] for name in ("dropout", "batch_size", "unroll_steps", "epochs", "max_norm")
    }
    assert arguments == {"dropout": 0.3, "batch_size": 7, "unroll_steps": 15, "epochs": 1, "max_norm": 2.5}
    options = Checkpoint.open(tmp_path / "run" / "elmo.ini").options
    assert (options.char_cnn.n_characters, options.lstm.dim) == (262, 10)


def test_it_goes_on_from_weights(text: Path, tmp_path: Path, small: ElmoConfig) -> None:
    ini = tmp_path / "model.ini"
    ini.write_text(f"[ELMO]\noptions_file = {small.options_file}\nweight_file = {small.weight_file}\n")
    invoke(text, tmp_path / "run", "--config", ini, *QUICK)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["weights"] == Checkpoint.open(small).fingerprint


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "exactly one of --options-file, --size, --config must be given. Received: none of them"),
        (("--size", "tiny", "--config", "demo"), "Received: --size and --config"),
        (("--size", "huge"), "'--size'"),
        (("--size", "tiny", "--epochs", 0), "'--epochs'"),
        (("--size", "tiny", "--batch-size", "many"), "'--batch-size'"),
        (("--size", "tiny", "--max-vocab", 3), "'--max-vocab'"),
        (("--size", "tiny", "--dropout", 1.5), "'--dropout'"),
    ],
)
def test_wrong_options_are_of_usage(text: Path, tmp_path: Path, arguments: tuple[Any, ...], message: str) -> None:
    result = invoke(text, tmp_path / "run", *arguments, check=False)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.replace("│", " ").split())
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("--learning-rate", -1), InputValueError, r"\(--learning-rate\) must be above 0. Received: -1.0"),
        (("--max-norm", 0), InputValueError, r"\(--max-norm\) must be above 0"),
        (("--dropout", 1), InputValueError, r"\(--dropout\)"),
        (("--warm-up-steps", 10_000), InputValueError, r"\(--warm-up-steps\) must be fewer than all steps"),
        (("--device", "abacus"), InputValueError, "`device` must be a device that PyTorch has"),
    ],
)
def test_wrong_numbers_are_of_ours(
    text: Path, tmp_path: Path, arguments: tuple[Any, ...], error: type[Exception], message: str
) -> None:
    result = invoke(text, tmp_path / "run", "--size", "tiny", *arguments, check=False)
    with pytest.raises(error, match=message):
        raise result.exception


def test_a_file_that_is_no_options_file(text: Path, tmp_path: Path) -> None:
    (tmp_path / "options.json").write_text('{"lstm": 1}')
    result = invoke(text, tmp_path / "run", "--options-file", tmp_path / "options.json", check=False)
    assert isinstance(result.exception, CheckpointError)
    assert "(from --options-file)" in str(result.exception)
    file = options_file(tmp_path, bidirectional=False)
    result = invoke(text, tmp_path / "run", "--options-file", file, check=False)
    assert isinstance(result.exception, UnsupportedError)
    file = options_file(tmp_path, n_epochs="ten")
    result = invoke(text, tmp_path / "run", "--options-file", file, check=False)
    assert "`epochs` must be an integer. Received: 'ten'" in str(result.exception)


@pytest.mark.parametrize(
    ("interrupted", "said"),
    [
        ((Vocabulary, "count"), "interrupted; the run in {} was not replaced\n"),
        (
            (TrainingBatches, "__next__"),
            "interrupted; the same command with --resume instead of --overwrite continues\n",
        ),
    ],
)
def test_control_c_before_and_after_a_run_is_replaced(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interrupted: tuple[type, str], said: str
) -> None:
    arguments = (text, tmp_path / "run", "--size", "tiny", *QUICK)
    invoke(*arguments)

    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(*interrupted, interrupt)
    result = invoke(*arguments, "--overwrite", check=False)
    assert result.exit_code != 0
    assert said.format(tmp_path / "run") in result.stderr
    assert (tmp_path / "run" / "state.npz").exists() == (interrupted[0] is Vocabulary)


def test_the_help_tells_defaults_as_they_are() -> None:
    said = " ".join(invoke("--help").stdout.replace("│", " ").split())
    assert "default: (" not in said
    assert "by default 10 times" in said


COMMAND = [sys.executable, "-m", "bridge.cli.main", "pretrain"]


@pytest.mark.slow
def test_control_c_saves_and_says_how_to_go_on(text: Path, tmp_path: Path) -> None:
    arguments = [str(text), str(tmp_path / "run"), "--size", "tiny", "--epochs", "9999", "--checkpoint-steps", "99999"]
    with start_command("pretrain", *arguments) as process:
        assert process.stderr is not None
        assert "300 sentences" in process.stderr.readline()
        while process.poll() is None and not (tmp_path / "run" / "history.csv").exists():
            time.sleep(0.01)
        _, errors = press_control_c(process)
    assert process.returncode == 130
    assert errors == "interrupted; the same command with --resume continues\n"
    assert (tmp_path / "run" / "state.npz").exists()


@pytest.mark.slow
def test_a_terminal_has_a_bar(text: Path, tmp_path: Path) -> None:
    main, side = pty.openpty()
    command = [*COMMAND, str(text), str(tmp_path / "run"), "--size", "tiny", *map(str, QUICK), "--epochs", "5"]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80"}
    with subprocess.Popen(command, stderr=side, stdout=subprocess.PIPE, env=environment) as process:
        os.close(side)
        shown = b""
        while True:
            try:
                shown += os.read(main, 1 << 16)
            except OSError:  # the other end is closed
                break
    os.close(main)
    assert process.returncode == 0, shown
    for part in (b"45 steps", b"/45", b"epoch 5  ", b" tokens/s", b"left", b"backward"):
        assert part in shown
