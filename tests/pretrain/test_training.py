"""`train_bilm`: it learns, what it leaves, and what it refuses."""

import importlib.machinery
import io
import json
import math
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import h5py
import numpy as np
import pytest
import tensorflow as tf
import torch
from models import options_dict
from pretrain.runs import OPTIONS, PAIRS, assert_same_run, history, run_quick, state, write_text
from rich.console import Console
from tensorflow.core.util import event_pb2

from bridge import Checkpoint, ElmoConfig, ElmoEncoder
from bridge.errors import InputValueError, ProcessError, ResourceNotFoundError
from bridge.pretrain import BilmReport, train_bilm
from bridge.pretrain.batches import Batch, TrainingBatches
from bridge.pretrain.language_model import LanguageModel
from bridge.pretrain.progress import PretrainProgress
from bridge.pretrain.run_folder import BilmRunFolder
from bridge.pretrain.vocabulary import Vocabulary
from bridge.resources.checkpoint import expected_datasets
from bridge.resources.options import ElmoOptions


@pytest.fixture(scope="module")
def learned(text: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, BilmReport]:
    """A run that has learned the language."""
    folder = Path(tmp_path_factory.mktemp("learned")) / "new" / "run"
    # Long: its rows begin with a state of zeros, which a biLM in training hardly sees.
    held_out = write_text(folder.parents[1] / "held_out.txt", sentences=1200, seed=1)
    with open(folder.parents[1] / "log.txt", "w") as log:
        report = run_quick(
            text,
            folder,
            held_out=held_out,
            epochs=12,
            batch_size=8,
            unroll_steps=6,
            learning_rate=0.01,
            dropout=0.0,
            options=ElmoOptions.model_validate(options_dict(dim=32, projection_dim=16, filters=((1, 16),))),
            checkpoint_steps=50,
            console=Console(file=log, width=200),
        )
    return folder, report


def test_it_learns(learned: tuple[Path, BilmReport]) -> None:
    """Of a language whose perplexity is 2."""
    folder, report = learned
    first, last = history(folder)[0], history(folder)[-1]
    for prefix in ("", "held_out_"):
        for direction in ("forward", "backward"):
            name = f"{prefix}{direction}_perplexity"
            assert float(first[name]) > float(last[name])
            assert 1.98 < float(last[name]) < 2.12, name
    assert report.held_out_perplexities is not None
    assert max(report.held_out_perplexities) < 2.12
    assert math.prod(report.held_out_perplexities) == min(
        float(row["held_out_forward_perplexity"]) * float(row["held_out_backward_perplexity"])
        for row in history(folder)
    )
    assert report.perplexities == (float(last["forward_perplexity"]), float(last["backward_perplexity"]))


def test_the_report(learned: tuple[Path, BilmReport]) -> None:
    folder, report = learned
    # 300 sentences of 3 positions, in 12 epochs.
    assert report.steps == 12 * math.ceil(900 / (8 * 6)) == 228
    assert report.tokens == 228 * 8 * 6
    assert report.tokens_per_second == pytest.approx(report.tokens / report.seconds)
    assert report.vocabulary_size == len(PAIRS) + 4 + 3
    assert report.config.options_file == str(folder / "options.json")


def test_the_run_folder(learned: tuple[Path, BilmReport], text: Path) -> None:
    folder, _ = learned
    assert {path.name for path in folder.iterdir()} == {
        "run.json",
        "vocabulary.txt",
        "options.json",
        "weights.hdf5",
        "elmo.ini",
        "state.npz",
        "history.csv",
        "tensorboard",
    }
    settings = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    assert settings["counts"] == {"sentences": 300, "tokens": 600, "unknown": 0}
    assert (settings["text"]["files"], settings["text"]["bytes"]) == (["text.txt"], [text.stat().st_size])
    assert settings["versions"]["torch"] == torch.__version__
    assert settings["machine"] == {"threads": torch.get_num_threads(), "device": "cpu"}
    assert Vocabulary.load(folder / "vocabulary.txt").tokens[:3] == ("<S>", "</S>", "<UNK>")
    rows = history(folder)
    assert [int(row["step"]) for row in rows] == [50, 100, 150, 200, 228]
    assert [int(row["epoch"]) for row in rows] == [3, 6, 8, 11, 12]
    assert [int(row["tokens"]) for row in rows] == [int(row["step"]) * 48 for row in rows]
    assert [float(row["learning_rate"]) for row in rows] == pytest.approx(
        [0.01 * (228 - step) / 228 for step in (49, 99, 149, 199, 227)]
    )
    assert all(0 < float(row["gradient_norm"]) < 100 for row in rows)
    log = (folder.parents[1] / "log.txt").read_text()
    assert "300 sentences, 600 tokens; 11 words to predict" in log
    assert log.count("checkpoint at step") == 5


@pytest.mark.parametrize(("rate", "told"), [(0.01, False), (1.0, True)])
def test_what_is_worse_than_a_guess_is_told(
    text: Path, held_out: Path, tmp_path: Path, rate: float, told: bool
) -> None:
    shown = io.StringIO()
    console = Console(file=shown)
    run_quick(text, tmp_path / "run", learning_rate=rate, schedule="constant", held_out=held_out, console=console)
    last = history(tmp_path / "run")[-1]
    perplexity = max(float(last["held_out_forward_perplexity"]), float(last["held_out_backward_perplexity"]))
    assert (perplexity > 11) == told
    assert ("that is worse than to guess one of 11 words: " in shown.getvalue().splitlines()[-1]) == told


def test_tensorboard_has_the_history(learned: tuple[Path, BilmReport]) -> None:
    folder, _ = learned
    curves: dict[str, list[float]] = {}
    for kind in ("train", "validation"):
        (file,) = (folder / "tensorboard" / kind).iterdir()
        for record in tf.data.TFRecordDataset(str(file)):
            event = event_pb2.Event.FromString(record.numpy())
            for value in event.summary.value:
                assert event.step == [50, 100, 150, 200, 228][len(curves.get(f"{kind}/{value.tag}", []))]
                curves.setdefault(f"{kind}/{value.tag}", []).append(float(tf.make_ndarray(value.tensor)))
    for curve, column in (
        ("train/forward_perplexity", "forward_perplexity"),
        ("validation/backward_perplexity", "held_out_backward_perplexity"),
        ("train/gradient_norm", "gradient_norm"),
    ):
        assert curves[curve] == pytest.approx([float(row[column]) for row in history(folder)], rel=1e-6)
    assert "train/tokens_per_second" in curves


def test_the_weights_are_a_sound_checkpoint(learned: tuple[Path, BilmReport]) -> None:
    folder, report = learned
    checkpoint = Checkpoint.open(folder / "elmo.ini")
    assert checkpoint.fingerprint == Checkpoint.open(report.config).fingerprint
    assert checkpoint.options.char_cnn.n_characters == 262
    vectors = ElmoEncoder(folder / "elmo.ini").embed([["a", "x"], ["b", "y", "z"]], layers="all")
    assert [values.shape for values in vectors] == [(2, 3, 32), (3, 3, 32)]


def test_held_out_text_changes_nothing_but_what_is_kept(text: Path, tmp_path: Path) -> None:
    """Measuring neither draws random numbers nor touches the state of the LSTMs."""
    run_quick(text, tmp_path / "with", held_out=write_text(tmp_path / "held_out.txt", 20, seed=2), checkpoint_steps=7)
    report = run_quick(text, tmp_path / "without", checkpoint_steps=7)
    assert report.held_out_perplexities is None
    arrays, progress = state(tmp_path / "with")
    wanted, wanted_progress = state(tmp_path / "without")
    for name, values in arrays.items():
        np.testing.assert_array_equal(values, wanted[name], err_msg=name)
    assert progress["random"] == wanted_progress["random"]
    assert {row["held_out_forward_perplexity"] for row in history(tmp_path / "without")} == {""}


def test_the_best_held_out_weights_are_kept(text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    losses = iter([(1.0, 2.0), (0.5, 1.5), (2.0, 0.1)])  # of which the second has the lower sum; the third is 2.1
    kept: list[Path] = []
    monkeypatch.setattr("bridge.pretrain.run.held_out_losses", lambda *_, **__: next(losses))
    real = BilmRunFolder.write_weights

    def write_weights(folder: BilmRunFolder, *given: Any) -> None:
        kept.append(folder.path)
        real(folder, *given)

    monkeypatch.setattr(BilmRunFolder, "write_weights", write_weights)
    report = run_quick(text, tmp_path / "run", held_out=text)
    assert len(kept) == 2
    assert report.held_out_perplexities == pytest.approx((math.exp(0.5), math.exp(1.5)))


def test_the_callers_random_numbers_stay(text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    seeded: list[int] = []  # of all GPUs, where there are some
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    run_quick(text, tmp_path / "run", epochs=1)
    assert torch.equal(torch.get_rng_state(), before)
    assert seeded == []


@pytest.mark.slow
def test_the_seed_decides(text: Path, tmp_path: Path) -> None:
    torch.manual_seed(3)
    run_quick(text, tmp_path / "one", epochs=1)
    torch.manual_seed(4)
    run_quick(text, tmp_path / "two", epochs=1)
    assert_same_run(tmp_path / "one", tmp_path / "two")
    run_quick(text, tmp_path / "three", epochs=1, seed=2)
    assert history(tmp_path / "three") != history(tmp_path / "one")


def test_it_goes_on_from_published_weights(text: Path, tmp_path: Path, small: ElmoConfig) -> None:
    """With a learning rate of nothing they come out as they went in."""
    run_quick(text, tmp_path / "run", config=small, learning_rate=1e-30, epochs=1)
    with h5py.File(small.weight_file) as wanted, h5py.File(tmp_path / "run" / "weights.hdf5") as file:
        for name in expected_datasets(Checkpoint.open(small).options):
            np.testing.assert_allclose(file[name][:], wanted[name][:], rtol=1e-6, atol=1e-7)
    settings = json.loads((tmp_path / "run" / "run.json").read_text())
    assert settings["weights"] == Checkpoint.open(small).fingerprint


def test_what_can_be_read_once_alone_is_refused(text: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for once in ("-", tmp_path / "pipe"):
        with pytest.raises(
            InputValueError, match=r"`inputs` must be files: they are read several times.* to a file first"
        ):
            train_bilm(once, tmp_path / "run", options=OPTIONS)
        with pytest.raises(InputValueError, match="`held_out` must be files"):
            train_bilm(text, tmp_path / "run", options=OPTIONS, held_out=once)
    assert not (tmp_path / "run").exists()


def test_a_missing_text_is_told_with_its_argument(text: Path, tmp_path: Path) -> None:
    missing = tmp_path / "missing.txt"
    with pytest.raises(ResourceNotFoundError, match=r"^`held_out` \(--held-out\) must be text .*missing.txt': No such"):
        train_bilm(text, tmp_path / "run", options=OPTIONS, held_out=missing)
    with pytest.raises(ResourceNotFoundError, match=r"^`inputs` must be text to train on.*missing.txt': No such"):
        train_bilm(missing, tmp_path / "run", options=OPTIONS, held_out=text)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("loss", "shown"),
    [(3.36, "28.79 / 79.44"), (13.58, "790,167 / 2.2e+06"), (34.98, "1.6e+15 / "), (690.0, "4.6e+299 / ")],
)
def test_the_bar_has_room_in_80_columns(loss: float, shown: str) -> None:
    """Bar, count, numbers and the time that is left, of a training of millions of steps."""
    terminal = io.StringIO()
    console = Console(file=terminal, width=80, force_terminal=True, color_system=None, legacy_windows=False)
    progress = PretrainProgress(3_000_000, 1_000_000, console, plain=False)
    with progress.shown():
        progress.advance(1_234_567, 10, (loss, loss + 1.015), 123_456.0)
    (line,) = {line.rstrip() for line in re.split(r"[\r\n]|\x1b\[[\d?]*\w", terminal.getvalue()) if "tokens/s" in line}
    assert re.fullmatch(r"[━╸╺ ]{2,} 1234567/3000000 epoch 10  .* / .*  123,456 tokens/s left [\d:-]+", line), line
    assert shown in line


def test_the_speed_is_of_the_steps_that_are_timed(text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the first one on: 60 tokens, of a step that takes a twentieth of a second at least."""
    speeds: list[float] = []
    monkeypatch.setattr(PretrainProgress, "advance", lambda *given: speeds.append(given[-1]))
    real = TrainingBatches.__next__

    def take(batches: TrainingBatches) -> Batch:
        time.sleep(0.05)
        return real(batches)

    monkeypatch.setattr(TrainingBatches, "__next__", take)
    run_quick(text, tmp_path / "run", epochs=1, batch_size=18)
    assert len(speeds) == 5
    assert max(speeds) < 18 * 10 / 0.05


def test_perplexities_may_be_larger_than_float32(text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the run can still be resumed, which reads them again."""
    real = LanguageModel.forward

    def forward(model: LanguageModel, *given: Any) -> Any:
        losses, new = real(model, *given)
        return losses + 200, new

    monkeypatch.setattr(LanguageModel, "forward", forward)
    report = run_quick(text, tmp_path / "run", held_out=text, epochs=1)
    assert min(report.perplexities) > math.exp(200)
    assert run_quick(text, tmp_path / "run", held_out=text, epochs=1, resume=True).perplexities == report.perplexities


def test_numpys_numbers_will_do(text: Path, tmp_path: Path) -> None:
    run_quick(text, tmp_path / "run", epochs=np.int64(1), learning_rate=np.float64(0.01), seed=np.uint8(1))
    assert json.loads((tmp_path / "run" / "run.json").read_text())["arguments"]["seed"] == 1


@pytest.mark.slow
def test_neither_tensorflow_nor_keras_is_imported() -> None:
    code = "import sys, bridge.pretrain.training; print({'tensorflow', 'keras'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_tensorflow_before_triton_is_refused(text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where triton is installed; an optimizer would import it, and the process end without a word."""
    triton = ModuleType("triton")
    triton.__spec__ = importlib.machinery.ModuleSpec("triton", None)
    monkeypatch.setitem(sys.modules, "tensorflow", ModuleType("tensorflow"))
    monkeypatch.delitem(sys.modules, "triton", raising=False)
    (tmp_path / "installed" / "triton").mkdir(parents=True)
    (tmp_path / "installed" / "triton" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path / "installed")
    with pytest.raises(ProcessError, match="`import triton` before"):
        run_quick(text, tmp_path / "run")
    monkeypatch.setitem(sys.modules, "triton", triton)
    assert run_quick(text, tmp_path / "run", epochs=1).steps == 15
