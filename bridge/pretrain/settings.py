"""What a biLM's training is told: `Settings`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from bridge.checks import check_choice, check_integer
from bridge.errors import InputTypeError, InputValueError

Optimizer = Literal["adam", "adagrad"]
Schedule = Literal["linear", "constant"]
SoftmaxChoice = Literal["auto", "full", "adaptive"]
TrainingPrecision = Literal["float32", "bfloat16"]

# Of Adam a usual one; Adagrad's is bilm-tf's.
LEARNING_RATES = {"adam": 1e-3, "adagrad": 0.2}
MOST_WORDS_OF_FULL_SOFTMAX = 20_000


@dataclass(frozen=True)
class Settings:
    """The arguments of `train_bilm` that make the numbers: a resumed run must have the same.

    Raises:
        InputTypeError, InputValueError: one of them is wrong.
    """

    epochs: int
    batch_size: int
    unroll_steps: int
    optimizer: Optimizer
    learning_rate: float
    warm_up_steps: int
    schedule: Schedule
    max_norm: float
    dropout: float
    precision: TrainingPrecision
    softmax: SoftmaxChoice
    min_count: int
    max_vocab: int | None
    seed: int
    checkpoint_steps: int

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "unroll_steps", "min_count", "checkpoint_steps"):
            check_integer(name, getattr(self, name), minimum=1)
        for name in ("warm_up_steps", "seed"):
            check_integer(name, getattr(self, name), minimum=0, maximum=2**63 - 1)
        if self.max_vocab is not None:
            check_integer("max_vocab", self.max_vocab, minimum=4)  # with the three that are no words
        for name, value in vars(self).items():
            if isinstance(value, np.generic):  # which JSON has not
                object.__setattr__(self, name, value.item())
        check_choice("optimizer", self.optimizer, Optimizer)
        check_choice("schedule", self.schedule, Schedule)
        check_choice("softmax", self.softmax, SoftmaxChoice)
        check_choice("precision", self.precision, TrainingPrecision)
        for name in ("learning_rate", "max_norm"):
            value = _number(name, getattr(self, name))
            if value <= 0:
                raise InputValueError(f"`{name}` ({_option(name)}) must be above 0. Received: {value}.")
        if not 0 <= _number("dropout", self.dropout) < 1:
            raise InputValueError(
                f"`dropout` (--dropout) must be the share that is dropped, from 0 to below 1. Received: {self.dropout}."
            )

    def steps(self, positions: int) -> int:
        """How many steps the epochs take.

        Args:
            positions: what each direction predicts in an epoch.

        Raises:
            InputValueError: the warm-up is longer.
        """
        steps = self.epochs * math.ceil(positions / (self.batch_size * self.unroll_steps))
        if self.warm_up_steps >= steps:
            raise InputValueError(
                "`warm_up_steps` (--warm-up-steps) must be fewer than all steps. Received: "
                f"{self.warm_up_steps}, and {self.epochs} epochs of {positions:,} tokens are {steps} steps. Give "
                "fewer, or more epochs."
            )
        return steps

    def learning_rate_at(self, step: int, steps: int) -> float:
        """The learning rate of a step, counted from 0, of so many: nothing to save when a run is resumed."""
        if step < self.warm_up_steps:
            return self.learning_rate * (step + 1) / self.warm_up_steps
        if self.schedule == "constant":
            return self.learning_rate
        return self.learning_rate * (steps - step) / (steps - self.warm_up_steps)

    def softmax_for(self, words: int) -> Literal["full", "adaptive"]:
        """The softmax for a vocabulary of that size."""
        if self.softmax == "auto":
            return "full" if words <= MOST_WORDS_OF_FULL_SOFTMAX else "adaptive"
        return self.softmax


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InputTypeError(
            f"`{name}` ({_option(name)}) must be a finite number. Received: {value!r:.80} of type "
            f"{type(value).__name__}."
        )
    return value


def _option(name: str) -> str:
    """Of the command line."""
    return f"--{name.replace('_', '-')}"
