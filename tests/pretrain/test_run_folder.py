"""Run folders of biLMs: which runs go on, and what is told of the others."""

import json
import resource
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pretrain.runs import assert_same_run, history, run_quick

from bridge import Checkpoint, ElmoConfig
from bridge.errors import CheckpointError, InputValueError, OutputError, ProcessError
from bridge.pretrain.batches import Batch, TrainingBatches
from bridge.pretrain.language_model import LanguageModel
from bridge.pretrain.sizes import options_of_size


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"epochs": 3}, "^A run must be resumed .* `epochs` was 2 and is 3"),
        ({"learning_rate": 0.1}, "`learning_rate` was 0.01 and is 0.1"),
        ({"softmax": "full"}, "`softmax` was 'auto' and is 'full'"),
        ({"held_out": None}, "`held_out.files` was .* and is None"),
        ({"options": options_of_size("tiny")}, "`options.lstm.dim` was 12 and is 32"),
    ],
)  # fmt: skip
def test_other_arguments_are_named(
    uninterrupted: Path, text: Path, held_out: Path, change: dict[str, Any], named: str
) -> None:
    with pytest.raises(InputValueError, match=named):
        run_quick(text, uninterrupted, **{"held_out": held_out, **change}, resume=True)


def test_more_epochs_go_on_from_the_weights(text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the remedy says, which names them when they are there."""

    def interrupt(_: TrainingBatches) -> Batch:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(TrainingBatches, "__next__", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run_quick(text, tmp_path / "run", epochs=1)
    with pytest.raises(InputValueError, match=r"into another folder\.$"):
        run_quick(text, tmp_path / "run", epochs=2, resume=True)
    run_quick(text, tmp_path / "run", epochs=1, resume=True)
    ini = tmp_path / "run" / "elmo.ini"
    with pytest.raises(InputValueError, match=rf"go on from them: give it {ini} as `config` \(--config\), and another"):
        run_quick(text, tmp_path / "run", epochs=2, resume=True)
    assert run_quick(text, tmp_path / "more", config=ini, epochs=2).steps == 30


def test_other_weights_are_named(text: Path, tmp_path: Path, small: ElmoConfig) -> None:
    run_quick(text, tmp_path / "run", config=small, epochs=1)
    with pytest.raises(InputValueError, match=f"`weights` was '{Checkpoint.open(small).fingerprint}' and is '"):
        run_quick(text, tmp_path / "run", config=tmp_path / "run" / "elmo.ini", epochs=1, resume=True)


def test_another_text_is_named(uninterrupted: Path, text: Path, held_out: Path, tmp_path: Path) -> None:
    changed = tmp_path / text.name
    shutil.copy(text, changed)
    content = bytearray(changed.read_bytes())
    content[len(content) // 2] ^= 1  # the same size
    changed.write_bytes(content)
    with pytest.raises(InputValueError, match=r"`text.sha256` was '\w+' and is '\w+'\. Give"):
        run_quick(changed, uninterrupted, held_out=held_out, resume=True)
    changed.write_bytes(content + b"a x\n")
    with pytest.raises(InputValueError, match=r"`text.bytes` was \[\d+\] and is \[\d+\]"):
        run_quick(changed, uninterrupted, held_out=held_out, resume=True)


def test_a_moved_text_is_the_same(uninterrupted: Path, text: Path, held_out: Path, tmp_path: Path) -> None:
    shutil.copy(text, tmp_path)
    assert run_quick(tmp_path / text.name, uninterrupted, held_out=held_out, resume=True).steps == 30


@pytest.mark.parametrize("more", [{}, {"resume": True}, {"overwrite": True}])
def test_somebody_elses_folder_is_left_alone(text: Path, tmp_path: Path, more: dict[str, bool]) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(InputValueError, match="must be new, empty, or hold a run"):
        run_quick(text, tmp_path, **more)
    (tmp_path / "thesis.tex").rename(tmp_path / "run.json")
    (tmp_path / "run.json").write_text('{"format": 1, "made_by": "elmo-bridge train"}')
    with pytest.raises(InputValueError, match=r"must be new|which `elmo-bridge train` made"):
        run_quick(text, tmp_path, **more)
    (tmp_path / "weights.hdf5").write_text("hours of work")
    for content in ('{"distance": "10 km"}', "[1, 2]"):
        (tmp_path / "run.json").write_text(content)
        with pytest.raises(InputValueError, match=r"must be new|which holds other things"):
            run_quick(text, tmp_path, **more)
    assert {path.name for path in tmp_path.iterdir()} == {"run.json", "weights.hdf5"}


@pytest.mark.parametrize("more", [{}, {"resume": True}, {"overwrite": True}])
def test_a_file_is_no_run_folder(text: Path, more: dict[str, bool]) -> None:
    before = text.read_bytes()
    with pytest.raises(InputValueError, match=r"must be new, .*text.txt', which is a file\. Name another folder"):
        run_quick(text, text, **more)
    assert text.read_bytes() == before


def test_a_run_is_replaced_when_asked(text: Path, tmp_path: Path) -> None:
    run_quick(text, tmp_path / "run")
    with pytest.raises(InputValueError, match=r"must be new.*which holds a run.*--resume.*--overwrite"):
        run_quick(text, tmp_path / "run", epochs=1)
    assert run_quick(text, tmp_path / "run", epochs=1, overwrite=True).steps == 15
    assert [row["step"] for row in history(tmp_path / "run")] == ["10", "15"]


@pytest.mark.parametrize("linked", [False, True])
def test_the_weights_to_go_on_from_are_not_replaced(text: Path, tmp_path: Path, linked: bool) -> None:
    run_quick(text, tmp_path / "run", epochs=1)
    (tmp_path / "link").symlink_to(tmp_path / "run")
    before = {path: path.read_bytes() for path in (tmp_path / "run").iterdir() if path.is_file()}
    with pytest.raises(InputValueError, match=r"`config` \(--config\) must be outside of .* Name another run folder"):
        run_quick(text, tmp_path / ("link" if linked else "run"), config=tmp_path / "run" / "elmo.ini", overwrite=True)
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize("name", ["run.json", "state.npz"])
@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_damaged_files_are_told(
    uninterrupted: Path, text: Path, held_out: Path, tmp_path: Path, name: str, damage: str
) -> None:
    shutil.copytree(uninterrupted, tmp_path / "run")
    content = bytearray((tmp_path / "run" / name).read_bytes())
    if damage == "cut":
        del content[-30:]
    else:
        content[len(content) // 2] ^= 0x80
    (tmp_path / "run" / name).write_bytes(content)
    with pytest.raises(CheckpointError, match="damaged"):
        run_quick(text, tmp_path / "run", held_out=held_out, resume=True)


@pytest.mark.parametrize("content", ["<S>\n</S>\n<UNK>\na\na\n", "", "\0\n"])
def test_a_damaged_vocabulary_is_told(
    uninterrupted: Path, text: Path, held_out: Path, tmp_path: Path, content: str
) -> None:
    """And the remedy is one."""
    shutil.copytree(uninterrupted, tmp_path / "run")
    (tmp_path / "run" / "vocabulary.txt").write_text(content)
    with pytest.raises(CheckpointError, match=r"vocabulary.txt must be .* a damaged file .* Delete it"):
        run_quick(text, tmp_path / "run", held_out=held_out, resume=True)
    (tmp_path / "run" / "vocabulary.txt").unlink()
    run_quick(text, tmp_path / "run", held_out=held_out, resume=True)
    assert_same_run(tmp_path / "run", uninterrupted)


@pytest.mark.parametrize("counts", [None, {"sentences": 300}, 5])
def test_counts_that_are_not_there_are_told(
    uninterrupted: Path, text: Path, held_out: Path, tmp_path: Path, counts: Any
) -> None:
    shutil.copytree(uninterrupted, tmp_path / "run")
    settings = json.loads((tmp_path / "run" / "run.json").read_text())
    del settings["counts"]
    (tmp_path / "run" / "run.json").write_text(
        json.dumps(settings if counts is None else settings | {"counts": counts})
    )
    with pytest.raises(CheckpointError, match=r"run.json must have the counts .* a damaged file"):
        run_quick(text, tmp_path / "run", held_out=held_out, resume=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda shapes: list(shapes.values()), "a damaged file"),  # without names, as another format had it
        (
            lambda shapes: shapes | {"state/cell": [7]},
            r"must hold the state of this model.*{'state/cell': \[7\]}, where",
        ),
    ],
)
def test_a_state_of_another_model_is_told(
    uninterrupted: Path, text: Path, held_out: Path, tmp_path: Path, change: Callable[[Any], Any], message: str
) -> None:
    shutil.copytree(uninterrupted, tmp_path / "run")
    with np.load(uninterrupted / "state.npz") as file:
        arrays = dict(file)
    header = json.loads(arrays["header"].tobytes())
    header["shapes"] = change(header["shapes"])
    arrays["header"] = np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)
    np.savez(tmp_path / "run" / "state.npz", **arrays)
    with pytest.raises(CheckpointError, match=message):
        run_quick(text, tmp_path / "run", held_out=held_out, resume=True)


@pytest.mark.parametrize("direction", [0, 1])
def test_a_loss_without_a_perplexity_ends_the_run(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, direction: int
) -> None:
    real = LanguageModel.forward

    def forward(model: LanguageModel, *given: Any) -> Any:
        losses, new = real(model, *given)
        return losses + 701 * torch.eye(2)[direction], new

    monkeypatch.setattr(LanguageModel, "forward", forward)
    with pytest.raises(
        InputValueError, match=r"The loss must stay below 700 nats a word. Received: .*70\d.* at step 1\."
    ):
        run_quick(text, tmp_path / "run")


def test_a_loss_that_is_no_number_leaves_the_last_checkpoint(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a learning rate that no model survives; and the remedy is one."""
    with pytest.raises(
        InputValueError, match=r"must stay .* Received: .* at step \d+\. Lower `learning_rate`.*steps\)\.$"
    ):
        run_quick(text, tmp_path / "run", learning_rate=1e30, schedule="constant")
    real, calls = LanguageModel.forward, 0

    def forward(model: LanguageModel, *given: Any) -> Any:
        nonlocal calls
        calls += 1
        losses, new = real(model, *given)
        return (losses * np.nan if calls == 16 else losses), new

    monkeypatch.setattr(LanguageModel, "forward", forward)
    with pytest.raises(InputValueError, match=r"nan.* at step 16\. .*elmo.ini as `config` .*another folder") as caught:
        run_quick(text, tmp_path / "run", overwrite=True)
    assert str(tmp_path / "run" / "elmo.ini") in str(caught.value)
    assert [row["step"] for row in history(tmp_path / "run")] == ["10"]
    assert run_quick(text, tmp_path / "next", config=tmp_path / "run" / "elmo.ini", learning_rate=1e-3).steps == 30


@pytest.mark.slow
@pytest.mark.parametrize("name", ["run.json", "weights.hdf5", "state.npz"])
def test_a_full_disk_is_told(
    uninterrupted: Path, text: Path, held_out: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a limit on files that this one does not meet."""
    room = (uninterrupted / name).stat().st_size - 100
    real = LanguageModel.__init__

    def init(model: LanguageModel, *given: Any, **named: Any) -> None:
        # It writes its weights to a temporary folder, which is on another disk.
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        real(model, *given, **named)
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))

    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
        with monkeypatch.context() as patched:
            patched.setattr(LanguageModel, "__init__", init)
            with pytest.raises(OutputError, match=r"must be on a disk with room.*File too large.*--resume"):
                run_quick(text, tmp_path / "run", held_out=held_out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    run_quick(text, tmp_path / "run", held_out=held_out, resume=True)
    assert_same_run(tmp_path / "run", uninterrupted)


def test_a_folder_that_cannot_be_made_is_told(text: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="must be one that can be written"):
        run_quick(text, tmp_path / "file" / "run")


def test_two_processes_do_not_train_into_one_folder(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = TrainingBatches.__next__

    def take(self: TrainingBatches) -> Batch:
        monkeypatch.setattr(TrainingBatches, "__next__", real)
        with pytest.raises(ProcessError, match="another process works"):
            run_quick(text, tmp_path / "run", overwrite=True)
        return real(self)

    monkeypatch.setattr(TrainingBatches, "__next__", take)
    run_quick(text, tmp_path / "run", epochs=1)
