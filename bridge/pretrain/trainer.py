"""The steps of a biLM's training, and the checkpoints between them: `Trainer`."""

from __future__ import annotations

import base64
import math
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

import numpy as np
import torch

from bridge.errors import InputValueError
from bridge.interrupts import Interrupts
from bridge.pretrain.batches import TrainingBatches
from bridge.pretrain.history import History, Row, best_row
from bridge.pretrain.language_model import LanguageModel
from bridge.pretrain.optimizers import make_optimizer
from bridge.pretrain.progress import PretrainProgress, perplexity
from bridge.pretrain.run_folder import BilmRunFolder
from bridge.pretrain.settings import Settings
from bridge.state_file import read_state_file, write_state_file

# How many steps a GPU may run ahead before their losses are looked at, which waits for it.
STEPS_AHEAD = 10
# Of losses beyond, exp, the perplexity, would soon be no number.
MOST_NATS = 700.0


class Trainer:
    """Trains a model into a run folder, from the state that is there.

    Args:
        model: on its device, with its initial weights. The training draws from PyTorch's global random numbers.
        batches: what to train on, from its begin.
        folder: begun for this run.
        settings: of the run.
        steps: how many there are.
        measure: returns the held-out losses of the model, forward and backward; None where nothing is held out.

    Attributes:
        step: how many steps are done.
        rows: of the history.
        first: steps that were done before this process; seconds: of training in this process.
    """

    def __init__(
        self,
        model: LanguageModel,
        batches: TrainingBatches,
        folder: BilmRunFolder,
        settings: Settings,
        steps: int,
        measure: Callable[[], tuple[float, float]] | None,
    ) -> None:
        self.model, self.batches, self.folder = model, batches, folder
        self.settings, self.steps, self.measure = settings, steps, measure
        self.optimizer = make_optimizer(model.parameters(), settings.optimizer, settings.learning_rate)
        self.device = next(model.parameters()).device
        self.state = model.initial_state(settings.batch_size)
        self.step = 0
        self.rows: list[Row] = []
        # Since the last checkpoint: losses forward and backward, and the norm of the gradient.
        self._row_sums = [0.0, 0.0, 0.0]
        self._row_steps, self._row_seconds = 0, 0.0
        self._unread: list[torch.Tensor] = []
        self._seed()
        if folder.state_file.exists():
            self._restore()
        self.first, self.seconds = self.step, 0.0

    def run(self, progress: PretrainProgress) -> None:
        """Trains until all steps are done. Ctrl-C saves the state between two steps.

        Raises:
            InputValueError: the loss is no number any more, or far above that of a guess.
        """
        self.model.train()
        ahead = 1 if self.device.type == "cpu" else STEPS_AHEAD
        with (
            Interrupts() as interrupts,
            closing(History(self.folder.history_file, self.folder.tensorboard_folder, self.rows)) as history,
        ):
            while self.step < self.steps:
                began = time.monotonic()
                self._train_step()
                is_checkpoint = self.step % self.settings.checkpoint_steps == 0 or self.step == self.steps
                is_pressed = interrupts.pressed  # once: it may be at any moment
                is_time = len(self._unread) >= ahead or is_checkpoint or is_pressed
                values = self._read_losses() if is_time else []  # waits for the device
                taken = time.monotonic() - began
                self.seconds += taken
                self._row_seconds += taken
                self._add(values, progress)
                if is_checkpoint:
                    self._checkpoint(history, progress)
                elif is_pressed:
                    self._save()
                if is_pressed:
                    interrupts.raise_if_pressed()

    @property
    def epoch(self) -> int:
        """From 1. The last step reads on into an epoch that is none."""
        return min(self.batches.epoch + 1, self.settings.epochs)

    @property
    def tokens(self) -> int:
        """What each direction has predicted."""
        return self.step * self.settings.batch_size * self.settings.unroll_steps

    @property
    def tokens_per_second(self) -> float:
        """Of this process, without checkpoints."""
        trained = self.tokens - self.first * self.settings.batch_size * self.settings.unroll_steps
        return trained / max(self.seconds, 1e-9)

    def _train_step(self) -> None:
        rate = self.settings.learning_rate_at(self.step, self.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        losses, self.state = self.model(next(self.batches), self.state)
        self.optimizer.zero_grad(set_to_none=True)
        # Of the means over both directions and all positions, times the positions of a row: as in bilm-tf, for whose
        # `all_clip_norm_val` and Adagrad the size of a gradient matters.
        (losses.mean() * self.settings.unroll_steps).backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.max_norm)
        self.optimizer.step()
        self.step += 1
        self._unread.append(torch.cat([losses.detach(), norm.detach()[None].to(losses)]))

    def _read_losses(self) -> list[list[float]]:
        values = torch.stack(self._unread).tolist()
        self._unread = []
        return values

    def _add(self, read: list[list[float]], progress: PretrainProgress) -> None:
        for step, values in enumerate(read, start=self.step - len(read) + 1):
            self._check_finite(values, step)
            self._row_sums = [total + value for total, value in zip(self._row_sums, values, strict=True)]
            self._row_steps += 1
            progress.advance(step, self.epoch, (values[0], values[1]), self.tokens_per_second)

    def _check_finite(self, values: list[float], step: int) -> None:
        losses, norm = values[:2], values[2]
        if not all(map(math.isfinite, losses)):
            problem = f"The loss must stay a number. Received: {losses}"
        elif max(losses) >= MOST_NATS:
            problem = f"The loss must stay below {MOST_NATS:.0f} nats a word. Received: {losses}"
        elif not math.isfinite(norm):
            problem = f"The gradient norm must stay a number. Received: {norm}"
        else:
            return
        raise InputValueError(
            f"{problem} at step {step}. Lower `learning_rate` (--learning-rate), or warm up longer (`warm_up_steps`, "
            f"--warm-up-steps).{self.folder.going_on()}"
        )

    def _checkpoint(self, history: History, progress: PretrainProgress) -> None:
        forward, backward, norm = (total / self._row_steps for total in self._row_sums)
        held_out = None if self.measure is None else self.measure()
        if held_out is not None:
            self._check_finite([*held_out, norm], self.step)
        per_step = self.settings.batch_size * self.settings.unroll_steps
        row: dict[str, float | None] = {
            "step": self.step,
            "epoch": self.epoch,
            "tokens": self.tokens,
            "tokens_per_second": round(self._row_steps * per_step / max(self._row_seconds, 1e-9), 1),
            "forward_perplexity": perplexity(forward),
            "backward_perplexity": perplexity(backward),
            "held_out_forward_perplexity": None if held_out is None else perplexity(held_out[0]),
            "held_out_backward_perplexity": None if held_out is None else perplexity(held_out[1]),
            "learning_rate": self.settings.learning_rate_at(self.step - 1, self.steps),
            "gradient_norm": norm,
        }
        self._row_sums, self._row_steps, self._row_seconds = [0.0, 0.0, 0.0], 0, 0.0
        self.rows.append(row)
        history.write_csv()
        self._save()
        self._write_weights()
        history.write_tensorboard(row)
        progress.checkpoint(row)

    def _write_weights(self) -> None:
        """Writes the weights where the step is that of the best checkpoint.

        After the state: weights are then always those of a checkpoint that is kept, also where steps that are trained
        again come out otherwise, as they may on a GPU. Killed in between, the resumed run writes them.
        """
        if self.rows and self.rows[-1]["step"] == self.step and best_row(self.rows) is self.rows[-1]:
            self.folder.write_weights(self.model.options, self.model.weights())

    def _seed(self) -> None:
        """Of the devices of this training alone: the random numbers of others are the caller's."""
        torch.default_generator.manual_seed(self.settings.seed)
        if self.device.type == "cuda":
            with torch.cuda.device(self.device):
                torch.cuda.manual_seed(self.settings.seed)

    def _tensors(self) -> dict[str, torch.Tensor]:
        """All that is not in `_save`'s JSON."""
        tensors = dict(self.model.named_parameters())
        for name, parameter in list(tensors.items()):
            for key, values in self.optimizer.state[parameter].items():
                tensors[f"optimizer/{key}/{name}"] = values
        return tensors | {"state/hidden": self.state[0], "state/cell": self.state[1]}

    def _save(self) -> None:
        random = {"cpu": _encoded(torch.get_rng_state())}
        if self.device.type == "cuda":
            random["cuda"] = _encoded(torch.cuda.get_rng_state(self.device))
        progress: dict[str, Any] = {
            "step": self.step,
            "row": [self._row_sums, self._row_steps, self._row_seconds],
            "rows": self.rows,
            "random": random,
            "batches": self.batches.state(),
        }
        arrays = {name: tensor.detach().cpu().numpy() for name, tensor in self._tensors().items()}
        write_state_file(self.folder.state_file, arrays, progress)

    def _restore(self) -> None:
        tensors = self._tensors()
        shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}

        def put(name: str, values: np.ndarray) -> None:
            with torch.no_grad():
                tensors[name].copy_(torch.from_numpy(values))

        progress = read_state_file(self.folder.state_file, shapes, put)
        self.step, self.rows = progress["step"], progress["rows"]
        self._row_sums, self._row_steps, self._row_seconds = progress["row"]
        torch.set_rng_state(_decoded(progress["random"]["cpu"]))
        if self.device.type == "cuda" and "cuda" in progress["random"]:
            torch.cuda.set_rng_state(_decoded(progress["random"]["cuda"]), self.device)
        self.batches.restore(progress["batches"])
        self._write_weights()


def _encoded(random: torch.Tensor) -> str:
    return base64.b64encode(random.numpy().tobytes()).decode()


def _decoded(text: str) -> torch.Tensor:
    return torch.frombuffer(bytearray(base64.b64decode(text)), dtype=torch.uint8)
