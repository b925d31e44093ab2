"""A run that was killed ends as if it had never been."""

import csv
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from heads.examples import TAGS, tagged
from heads.runs import quick_tagger, run_quick, tagging_data
from tensorflow.core.util import event_pb2
from typer.testing import CliRunner

from bridge import ElmoConfig
from bridge.cli.main import app
from bridge.errors import CheckpointError, InputValueError
from bridge.heads import Head, LabelledData, train
from bridge.heads.run_folder import RunFolder
from bridge.heads.state import load_state, save_state

# A child that kills itself just before it gives a file its name for the n-th time.
KILLED_AT = """
import os, signal, sys
name, times = sys.argv[1].split(":")
seen, real = 0, os.replace
def replace(source, target):
    global seen
    seen += os.path.basename(target) == name
    if seen == int(times):
        os.kill(os.getpid(), signal.SIGKILL)
    real(source, target)
os.replace = replace
sys.argv[1:] = sys.argv[2:]
from bridge.cli.main import main
main()
"""


def assert_same_run(folder: Path, wanted: Path) -> None:
    """The same history and the same best model, to floating-point accuracy."""
    rows, wanted_rows = (
        list(csv.reader((path / "history.csv").read_text(encoding="utf-8").splitlines())) for path in (folder, wanted)
    )
    assert rows[0] == wanted_rows[0]
    np.testing.assert_allclose(
        np.array(rows[1:], dtype=float), np.array(wanted_rows[1:], dtype=float), rtol=1e-4, atol=1e-5
    )
    models = [keras.models.load_model(path / "model.keras", compile=False) for path in (folder, wanted)]
    for ours, theirs in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def tensorboard_scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """What the event files hold, by kind and tag."""
    scalars: dict[str, list[tuple[int, float]]] = {}
    for file in sorted(folder.rglob("events*")):
        for record in tf.data.TFRecordDataset(str(file)):
            event = event_pb2.Event.FromString(record.numpy())
            for value in event.summary.value:
                assert value.metadata.plugin_data.plugin_name == "scalars"
                number = float(tf.make_ndarray(value.tensor))
                scalars.setdefault(f"{file.parent.name}/{value.tag}", []).append((event.step, number))
    return scalars


@pytest.mark.slow
def test_every_write_can_be_the_last(uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A crash before each of the run's writes in turn, always of the same run: it crawls to the same end."""
    real, crashes = os.replace, 0

    class Crash(Exception):
        """Stands for the kill that the next test has."""

    def crash_at(times: int) -> Callable[[Any, Any], None]:
        left = times

        def replace(source: Any, target: Any) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise Crash
            real(source, target)

        return replace

    folder = tmp_path / "run"
    history = None
    for times in (0, 1, 1, 2, 3, 1, 2, 3, 4, 5, 4, 3, 100):
        monkeypatch.setattr(os, "replace", crash_at(times))
        try:
            history, _ = run_quick(folder, resume=True)
            break
        except Crash:
            crashes += 1
    monkeypatch.setattr(os, "replace", real)
    assert history is not None
    assert crashes >= 9
    assert_same_run(folder, uninterrupted)
    # And TensorBoard shows every epoch once.
    scalars = tensorboard_scalars(folder / "tensorboard")
    assert len(scalars) == len(history)
    for name, values in scalars.items():
        key = name.replace("train/epoch_", "").replace("validation/epoch_", "val_")
        assert [step for step, _ in values] == list(range(len(history["loss"])))
        np.testing.assert_allclose([number for _, number in values], history[key], rtol=1e-6)


def test_a_finished_run_is_left_as_it_is(uninterrupted: Path) -> None:
    before = {path: path.read_bytes() for path in uninterrupted.glob("*.*") if path.suffix != ".png"}
    _, model = run_quick(uninterrupted, resume=True)
    assert {path: path.read_bytes() for path in before} == before
    saved = keras.models.load_model(uninterrupted / "model.keras", compile=False)
    for ours, theirs in zip(model.get_weights(), saved.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def ini(folder: Path, config: ElmoConfig) -> Path:
    path = folder / "model.ini"
    path.write_text(f"[ELMO]\noptions_file = {config.options_file}\nweight_file = {config.weight_file}\n")
    return path


def write_conll(path: Path, count: int, seed: int) -> Path:
    with open(path, "w", encoding="utf-8") as file:
        for example in tagged(count, seed):
            pairs = zip(example.tokens, example.target or (), strict=True)
            file.write("".join(f"{token} {tag}\n" for token, tag in pairs) + "\n")
    return path


@pytest.mark.slow
def test_killed_processes_end_like_one_that_was_not(tmp_path: Path, small: ElmoConfig) -> None:
    """`kill -9` between the best model and its state, and another in the middle of an epoch."""
    train_file, dev = write_conll(tmp_path / "train.conll", 60, 0), write_conll(tmp_path / "dev.conll", 20, 1)
    options = ["--config", str(ini(tmp_path, small)), "--dev", str(dev), "--epochs", "6", "--batch-size", "4"]
    options += ["--units", "8", "--learning-rate", "0.01", "--seed", "5"]

    def command(folder: str, *more: str) -> list[str]:
        return ["train", str(train_file), str(tmp_path / folder), *options, *more]

    def start(*arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    with start("-m", "bridge.cli.main", *command("whole")) as whole:
        # The state of epoch 0 is the first one: this is between the model of epoch 2 and its state.
        with start("-c", KILLED_AT, "state.npz:3", *command("killed")) as killed:
            killed.communicate()
        assert killed.returncode == -signal.SIGKILL
        with start("-m", "bridge.cli.main", *command("killed", "--resume")) as killed:
            for _ in range(1200):
                if len((tmp_path / "killed" / "history.csv").read_text().splitlines()) > 4 or killed.poll() is not None:
                    break
                time.sleep(0.05)
            killed.kill()
            output, _ = killed.communicate()
            assert killed.returncode == -signal.SIGKILL, output
        resumed = CliRunner().invoke(app, command("killed", "--resume"), catch_exceptions=False)
        assert resumed.exit_code == 0, resumed.output
        output, _ = whole.communicate()
        assert whole.returncode == 0, output
    assert_same_run(tmp_path / "killed", tmp_path / "whole")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"epochs": 6}, "`epochs` was 5 and is 6"),
        ({"seed": 4}, "`seed` was 3 and is 4"),
        ({"settings": {"learning_rate": 0.1}}, "`settings.learning_rate` was None and is 0.1"),
    ],
)
def test_other_arguments_are_named(uninterrupted: Path, change: dict[str, Any], named: str) -> None:
    with pytest.raises(InputValueError, match=named):
        run_quick(uninterrupted, resume=True, **change)


def test_other_data_are_named(uninterrupted: Path) -> None:
    data, _ = tagging_data()
    arguments: dict[str, Any] = {"epochs": 5, "batch_size": 16, "patience": 2, "seed": 3}
    with pytest.raises(InputValueError, match=r"`held_out_data.examples` was 20 and is None"):
        train(quick_tagger(), uninterrupted, data, resume=True, **arguments)
    with pytest.raises(InputValueError, match=r"`training_data.sha256` was '\w+' and is '\w+'[^;]*$"):
        train(
            quick_tagger(),
            uninterrupted,
            LabelledData(tagged(40, seed=7), TAGS),
            tagging_data()[1],
            resume=True,
            **arguments,
        )


def test_bfloat16_is_resumed(tmp_path: Path) -> None:
    """NumPy's files do not know it."""
    models = []
    for _ in range(2):
        model = keras.Sequential([keras.layers.Dense(3, dtype="bfloat16")])
        model.build((None, 2))
        model.compile("adam", "mse")
        models.append(model)
    save_state(tmp_path / "state.npz", models[0], {"epoch": 1})
    assert load_state(tmp_path / "state.npz", models[1]) == {"epoch": 1}
    for loaded, saved in zip(models[1].variables, models[0].variables, strict=True):
        assert loaded.dtype == saved.dtype == "bfloat16"
        np.testing.assert_array_equal(np.asarray(loaded, "float32"), np.asarray(saved, "float32"))


def test_a_replaced_run_leaves_no_state_without_its_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed between any two of the files that `overwrite` deletes, the folder still is a run, and can be resumed."""
    real = Path.unlink
    for count in range(5):
        folder = RunFolder(tmp_path / str(count))
        folder.begin({}, resume=False, overwrite=False)
        for file in (folder.model_file, folder.state_file, folder.history_file, folder.curves_file):
            file.touch()
        left = count

        def unlink(path: Path, missing_ok: bool = False) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise KeyboardInterrupt
            real(path, missing_ok)

        monkeypatch.setattr(Path, "unlink", unlink)
        with pytest.raises(KeyboardInterrupt):
            folder.begin({}, resume=False, overwrite=True)
        monkeypatch.setattr(Path, "unlink", real)
        assert folder.settings_file.exists()
        assert folder.model_file.exists() or not folder.state_file.exists()


def test_another_model_is_refused(uninterrupted: Path) -> None:
    with pytest.raises(CheckpointError, match="must hold the state of this model"):
        train(
            quick_tagger(units=5),
            uninterrupted,
            *tagging_data(),
            epochs=5,
            batch_size=16,
            patience=2,
            seed=3,
            resume=True,
        )


@pytest.mark.parametrize("name", ["run.json", "state.npz", "model.keras"])
def test_damaged_files_are_told(name: str, uninterrupted: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(uninterrupted, run)
    (run / name).write_bytes((run / name).read_bytes()[:-30])
    read = Head.load if name == "model.keras" else partial(run_quick, resume=True)
    with pytest.raises(CheckpointError, match="damaged"):
        read(run)
