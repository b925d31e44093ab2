"""Training a head into a run folder, with early stopping and exact resume: `train`."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
from rich.console import Console

from bridge.checks import check_integer
from bridge.errors import InputValueError, UnsupportedError
from bridge.heads.data import LabelledData
from bridge.heads.interrupts import Interrupts
from bridge.heads.plots import plot_histories
from bridge.heads.progress import ProgressReport
from bridge.heads.run_folder import RunFolder
from bridge.heads.state import load_state, save_state
from bridge.heads.tensorboard import TensorBoardLog
from bridge.layers.callbacks import ScalarMixLogger, scalar_mixes
from bridge.layers.embedding import ElmoEmbedding
from bridge.optional import require
from bridge.whole_file import write_file


def train(
    model: keras.Model,
    folder: str | os.PathLike[str],
    data: LabelledData,
    held_out: LabelledData | None = None,
    *,
    epochs: int = 20,
    batch_size: int = 32,
    patience: int | None = 5,
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    console: Console | None = None,
    title: str = "",
) -> dict[str, list[float]]:
    """Trains a compiled model into a run folder, and leaves it with the weights of its best epoch.

    The best epoch is that of the highest `val_f1` of entities where the model has it, else of the highest
    `val_accuracy`; of equals, and without either metric, that of the lowest `val_loss`: before a tagger finds its first
    entity, F1 is 0 for some epochs. Without held-out data it is that of the lowest `loss`.

    A process may be killed at any moment: with `resume=True` the training goes on after its last whole epoch, and
    ends with the weights and the history that it would have had, to floating-point accuracy.

    Args:
        model: what `classifier` or `tagger` returns, or any compiled model with the same inputs and outputs.
        folder: the run folder, see `RunFolder`.
        data: what to train on; shuffled anew in every epoch. Its task and labels are written down for `Head.load`.
        held_out: what to measure on. It never trains anything.
        epochs: the most epochs to train.
        batch_size: sentences in a batch.
        patience: stop after so many epochs without a better one; None never stops.
        seed: the seed of the shuffling. The model's own randomness is `keras.utils.set_random_seed`'s.
        settings: more to write down, and to compare when the run is resumed. JSON.
        resume: continue the run in the folder; where there is none yet, begin it.
        overwrite: replace the run in the folder.
        console, title: where to show progress, and what begins its lines.

    Returns:
        The history: by name, a number for every epoch; the learned mix is there as `ScalarMixLogger` names it.

    Raises:
        InputTypeError, InputValueError: an argument; or the folder holds another run than the one to resume; or the
            loss is no number any more.
        CheckpointError: the run to resume is of another model.
        MissingDependencyError: the extra `heads` is not installed.
        UnsupportedError: `state="carry"`: shuffled sentences have no state to carry.

    Example:
        >>> labels = ["blame", "praise"]
        >>> data = LabelledData(read_examples("train.tsv", task="classify"), labels)
        >>> held_out = LabelledData(read_examples("dev.tsv", task="classify"), labels)
        >>> model = classifier("demo", labels=labels)
        >>> history = train(model, "run", data, held_out)
    """
    check_integer("epochs", epochs, minimum=1)
    check_integer("batch_size", batch_size, minimum=1)
    check_integer("seed", seed, minimum=0)
    if patience is not None:
        check_integer("patience", patience, minimum=1)
    if held_out is not None and (held_out.task, held_out.labels) != (data.task, data.labels):
        raise InputValueError(
            f"`held_out` must be of the same task and labels as `data`, {data.task!r} and {data.labels!r:.200}. "
            f"Received: {held_out.task!r} and {held_out.labels!r:.200}. Give both the same labels, in the same order."
        )
    if model.output_shape[-1] != len(data.labels):
        raise InputValueError(
            f"`model` must have an output for each of the {len(data.labels)} labels of `data`. Received: "
            f"{model.name!r} with {model.output_shape[-1]}. Give the same labels, in the same order, to the model and "
            "the data."
        )
    if getattr(model, "optimizer", None) is None:
        raise InputValueError(f"`model` must be compiled. Received: {model.name!r}. Call its `compile` first.")
    # However deep inside.
    elmos = [layer for layer in model._flatten_layers() if isinstance(layer, ElmoEmbedding)]
    if any(elmo.state == "carry" for elmo in elmos):
        raise UnsupportedError(
            '`state` must not be "carry" in a training that shuffles and resumes: vectors would depend on what came '
            'before. Received: state="carry". Use "zero".'
        )
    require("matplotlib.figure", "heads")  # now, not after hours of training
    run_folder = RunFolder(folder)
    everything = {
        "task": data.task,
        "labels": data.labels,
        "arguments": {"epochs": epochs, "batch_size": batch_size, "patience": patience, "seed": seed},
        "settings": dict(settings or {}),
        "training_data": {"examples": len(data), "sha256": data.fingerprint},
        "held_out_data": held_out and {"examples": len(held_out), "sha256": held_out.fingerprint},
        "elmo_fingerprints": [elmo.checkpoint.fingerprint for elmo in elmos],
    }
    run_folder.begin(everything, resume=resume, overwrite=overwrite)
    report = ProgressReport(console, title)
    recorder = _Recorder(run_folder, data, held_out is not None, patience)
    recorder.set_model(model)
    recorder.begin()
    try:
        if not recorder.is_done(epochs):
            with Interrupts() as interrupts:
                model.fit(
                    data.batches(batch_size, shuffle_seed=seed),
                    validation_data=None if held_out is None else held_out.batches(batch_size),
                    epochs=epochs,
                    initial_epoch=recorder.epoch,
                    shuffle=False,  # the data do it, by seed and epoch
                    verbose=0,
                    # The mix reaches the logs of the callbacks that come after it.
                    callbacks=[interrupts, report, *([ScalarMixLogger()] if scalar_mixes(model) else []), recorder],
                )
    finally:
        report.close()
        recorder.close()
    plot_histories(run_folder.curves_file, {"": recorder.history}, recorder.monitor)
    model.load_weights(run_folder.model_file)
    return recorder.history


class _Recorder(keras.callbacks.Callback):
    """Keeps the state after every epoch and the best model, and stops early."""

    def __init__(self, folder: RunFolder, data: LabelledData, has_held_out: bool, patience: int | None) -> None:
        super().__init__()
        self.folder, self.data, self.patience = folder, data, patience
        self.epoch = 0  # how many are done
        self.history: dict[str, list[float]] = {}
        self.loss = "val_loss" if has_held_out else "loss"
        self.monitor = self.loss
        self.best: list[float] | None = None  # higher is better, the first number before the next
        self.best_epoch = 0

    def begin(self) -> None:
        """Takes up the state in the folder, or writes the first one."""
        if self.folder.state_file.exists():
            progress = load_state(self.folder.state_file, self.model)
            self.epoch, self.history, self.monitor = progress["epoch"], progress["history"], progress["monitor"]
            self.best, self.best_epoch = progress["best"], progress["best_epoch"]
        else:
            # Initial weights are random: a run that is killed in its first epoch must not draw others.
            self._save()
        self.tensorboard = TensorBoardLog(self.folder.tensorboard_folder, self.history)
        self._write_history()

    def is_done(self, epochs: int) -> bool:
        """Whether nothing is left to train."""
        stopped = self.patience is not None and self.best is not None and self.epoch - self.best_epoch >= self.patience
        return stopped or self.epoch >= epochs

    def close(self) -> None:
        self.tensorboard.close()

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self.data.epoch = epoch

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        numbers = {name: float(value) for name, value in (logs or {}).items()}
        if not math.isfinite(numbers["loss"]):
            raise InputValueError(
                f"The loss must stay a number. Received: {numbers['loss']} in epoch {epoch + 1}. Lower the learning "
                "rate."
            )
        if self.loss == "val_loss":
            self.monitor = next((name for name in ("val_f1", "val_accuracy") if name in numbers), "val_loss")
        for name, value in numbers.items():
            self.history.setdefault(name, []).append(value)
        self.epoch = epoch + 1
        score = [*([] if self.monitor == self.loss else [numbers[self.monitor]]), -numbers[self.loss]]
        if self.best is None or score > self.best:
            self.best, self.best_epoch = score, self.epoch
            # Before the state: killed in between, the epoch is trained again and the model written again.
            write_file(self.folder.model_file, self.model.save)
        self._save()
        self._write_history()
        self.tensorboard.write(epoch, numbers)
        if self.is_done(self.params["epochs"]):
            self.model.stop_training = True

    def _save(self) -> None:
        names = ("epoch", "history", "monitor", "best", "best_epoch")
        save_state(self.folder.state_file, self.model, {name: getattr(self, name) for name in names})

    def _write_history(self) -> None:
        def write(path: Path) -> None:
            with open(path, "w", encoding="utf-8", newline="") as file:
                rows = csv.writer(file, lineterminator="\n")
                rows.writerow(["epoch", *self.history])
                rows.writerows(zip(range(1, self.epoch + 1), *self.history.values(), strict=True))

        write_file(self.folder.history_file, write)
