"""A run that was stopped, whenever and however, ends as the run that was not: to the last bit."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pretrain.runs import assert_same_run, history, run_quick, state

from bridge.pretrain.batches import Batch, TrainingBatches
from bridge.pretrain.language_model import LanguageModel


class Crash(Exception):
    """Stands for the kill of the slow test."""


def test_every_write_can_be_the_last(
    uninterrupted: Path, text: Path, held_out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash before each file of a run gets its name, in turn; and then again before each later one."""
    real, names = os.replace, []

    def crash_at(times: int) -> Callable[[Any, Any], None]:
        left = times

        def replace(source: Any, target: Any) -> None:
            nonlocal left
            if Path(target).parent == tmp_path / "run":  # not of the model's temporary folder
                left -= 1
                if left < 0:
                    names.append(Path(target).name)
                    raise Crash
            real(source, target)

        return replace

    for times in (0, 1, 2, 3, 4, 5, 6, 1, 2, 3, 4, 5, 6, 5, 4, 100):
        monkeypatch.setattr(os, "replace", crash_at(times))
        try:
            run_quick(text, tmp_path / "run", held_out=held_out, resume=True)
            break
        except Crash:
            continue
    monkeypatch.setattr(os, "replace", real)
    assert len(names) >= 12
    assert set(names) >= {"run.json", "vocabulary.txt", "weights.hdf5", "options.json", "elmo.ini", "history.csv"}
    assert "state.npz" in names
    assert_same_run(tmp_path / "run", uninterrupted)


def interrupt_at(monkeypatch: pytest.MonkeyPatch, *batches: int) -> None:
    """Ctrl-C while these batches are taken, counted from 1 in this process."""
    real, taken = TrainingBatches.__next__, 0

    def take(self: TrainingBatches) -> Batch:
        nonlocal taken
        taken += 1
        if taken in batches:
            os.kill(os.getpid(), signal.SIGINT)
        return real(self)

    monkeypatch.setattr(TrainingBatches, "__next__", take)


@pytest.mark.parametrize(
    "arguments", [{}, {"optimizer": "adagrad", "softmax": "adaptive", "warm_up_steps": 5, "precision": "bfloat16"}]
)
def test_an_interrupt_saves_the_step(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: dict[str, Any]
) -> None:
    run_quick(text, tmp_path / "whole", **arguments)
    for steps in ([7], [6], [1], [6]):
        with monkeypatch.context() as patched:
            interrupt_at(patched, *steps)
            with pytest.raises(KeyboardInterrupt):
                run_quick(text, tmp_path / "run", **arguments, resume=True)
    assert state(tmp_path / "run")[1]["step"] == 7 + 6 + 1 + 6
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    run_quick(text, tmp_path / "run", **arguments, resume=True)
    assert_same_run(tmp_path / "run", tmp_path / "whole")


def test_pressed_again_it_does_not_wait(text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt_at(monkeypatch, 3)
    real = LanguageModel.forward

    def forward(model: LanguageModel, *given: Any) -> Any:
        if signal.getsignal(signal.SIGINT) is not signal.default_int_handler and pressed():
            os.kill(os.getpid(), signal.SIGINT)
        return real(model, *given)

    def pressed() -> bool:
        return signal.getsignal(signal.SIGINT).__self__.pressed  # type: ignore[union-attr]

    monkeypatch.setattr(LanguageModel, "forward", forward)
    with pytest.raises(KeyboardInterrupt):
        run_quick(text, tmp_path / "run")
    assert not (tmp_path / "run" / "state.npz").exists()


def test_a_finished_run_is_left_as_it_is(uninterrupted: Path, text: Path, held_out: Path) -> None:
    before = {path: path.read_bytes() for path in uninterrupted.iterdir() if path.is_file()}
    report = run_quick(text, uninterrupted, held_out=held_out, resume=True)
    assert {path: path.read_bytes() for path in before} == before
    assert (report.steps, report.seconds, report.tokens_per_second) == (30, 0.0, 0.0)
    assert report.perplexities.forward == float(history(uninterrupted)[-1]["forward_perplexity"])


def test_tensorboard_shows_every_checkpoint_once(uninterrupted: Path, text: Path, held_out: Path) -> None:
    def size() -> int:
        return sum(file.stat().st_size for file in uninterrupted.rglob("events*"))

    before = size()
    for _ in range(2):
        run_quick(text, uninterrupted, held_out=held_out, resume=True)
        assert size() == before


@pytest.mark.slow
def test_killed_processes_end_like_one_that_was_not(text: Path, held_out: Path, tmp_path: Path) -> None:
    """`kill -9`, at random moments of the training."""
    options = ["--size", "tiny", "--epochs", "9", "--batch-size", "4", "--unroll-steps", "6", "--seed", "5"]
    options += ["--checkpoint-steps", "3", "--held-out", str(held_out), "--resume"]

    def start(folder: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "bridge.cli.main", "pretrain", str(text), str(tmp_path / folder), *options]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    with start("whole") as whole:
        output, _ = whole.communicate()
        assert whole.returncode == 0, output
    moments, states = random.Random(0), set()
    for _ in range(6):
        with start("killed") as process:
            # Its imports take longer than a training this small: the moment is counted in checkpoints, and from there.
            for _ in range(moments.randint(1, 3)):
                before = saved_at(tmp_path / "killed")
                while saved_at(tmp_path / "killed") == before and process.poll() is None:
                    time.sleep(0.001)
            time.sleep(moments.uniform(0, 0.3))
            process.kill()
            output, _ = process.communicate()
            assert process.returncode == -signal.SIGKILL, output
        states.add(state(tmp_path / "killed")[1]["step"])
    assert len(states) == 6, states
    with start("killed") as process:
        output, _ = process.communicate()
        assert process.returncode == 0, output
    assert_same_run(tmp_path / "killed", tmp_path / "whole")


def saved_at(folder: Path) -> int:
    """When the state was written; it is never away for a moment."""
    file = folder / "state.npz"
    return file.stat().st_mtime_ns if file.exists() else 0
