"""A run that was stopped, whenever and however, ends as the run that was not: to the last bit."""

import io
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch
from pretrain.runs import assert_same_run, history, run_quick, state
from rich.console import Console

from bridge.pretrain.batches import Batch, TrainingBatches
from bridge.pretrain.language_model import LanguageModel
from bridge.pretrain.run_folder import BilmRunFolder


class Crash(Exception):
    """Stands for the kill of the slow test."""


@pytest.mark.slow
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


def test_weights_are_those_of_a_checkpoint_that_is_kept(
    uninterrupted: Path, text: Path, held_out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps that are trained again may come out otherwise, on a GPU: better weights must not be there before them."""
    real, seen = os.replace, []
    assert [row["step"] for row in history(uninterrupted)] == ["10", "20", "30"]
    losses = [
        float(row["held_out_forward_perplexity"]) * float(row["held_out_backward_perplexity"])
        for row in history(uninterrupted)
    ]
    assert losses == sorted(losses, reverse=True)  # each has new weights

    def replace(source: Any, target: Any) -> None:
        if Path(target).parent == tmp_path / "run":
            seen.append(Path(target).name)
            if seen.count(crash_at) == 2:
                raise Crash
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    crash_at = "state.npz"  # of the second checkpoint
    with pytest.raises(Crash):
        run_quick(text, tmp_path / "run", held_out=held_out)
    assert seen.count("weights.hdf5") == 1
    assert state(tmp_path / "run")[1]["step"] == 10


def test_weights_that_a_kill_left_out_are_written_when_resumed(
    uninterrupted: Path, text: Path, held_out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They come after the state: here those of the last checkpoint, after which there is nothing left to train."""
    real, written = BilmRunFolder.write_weights, 0

    def write_weights(folder: BilmRunFolder, *given: Any) -> None:
        nonlocal written
        written += 1
        if written == 3:
            raise Crash
        real(folder, *given)

    monkeypatch.setattr(BilmRunFolder, "write_weights", write_weights)
    with pytest.raises(Crash):
        run_quick(text, tmp_path / "run", held_out=held_out)
    assert state(tmp_path / "run")[1]["step"] == 30
    assert (tmp_path / "run" / "weights.hdf5").read_bytes() != (uninterrupted / "weights.hdf5").read_bytes()
    run_quick(text, tmp_path / "run", held_out=held_out, resume=True)
    assert_same_run(tmp_path / "run", uninterrupted)


@pytest.mark.usefixtures("heeding_control_c")
def test_another_number_of_threads_is_told(text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And another version of PyTorch: neither gives the same bits."""
    with monkeypatch.context() as patched:
        interrupt_at(patched, 7)
        with pytest.raises(KeyboardInterrupt):
            run_quick(text, tmp_path / "run")
    shutil.copytree(tmp_path / "run", tmp_path / "other")

    def told(folder: Path) -> str:
        log = io.StringIO()
        run_quick(text, folder, resume=True, console=Console(file=log, width=300))
        return log.getvalue()

    assert "last bit" not in told(tmp_path / "run")
    threads = torch.get_num_threads()
    monkeypatch.setattr(torch, "__version__", "99.0")
    torch.set_num_threads(threads + 1)
    try:
        line = f"threads was {threads}, is {threads + 1}; torch was {version('torch')}"
        assert line in told(tmp_path / "other")
        assert "last bit" not in told(tmp_path / "other")  # it is finished
    finally:
        torch.set_num_threads(threads)


@pytest.fixture
def heeding_control_c() -> Iterator[None]:
    """A process that was started in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


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


@pytest.mark.slow
@pytest.mark.usefixtures("heeding_control_c")
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


@pytest.mark.usefixtures("heeding_control_c")
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
