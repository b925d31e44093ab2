"""Training a biLM on text, with exact resume: `train_bilm`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console

from bridge.checks import check_boolean
from bridge.encoder.arguments import as_device
from bridge.errors import InputTypeError, InputValueError
from bridge.pretrain.optimizers import check_process
from bridge.pretrain.run import BilmReport, Run
from bridge.pretrain.run_folder import BilmRunFolder
from bridge.pretrain.settings import LEARNING_RATES, Optimizer, Schedule, Settings, SoftmaxChoice, TrainingPrecision
from bridge.pretrain.text import open_text
from bridge.resources.checkpoint import Checkpoint
from bridge.resources.config import ElmoConfig
from bridge.resources.options import ElmoOptions

if TYPE_CHECKING:  # imported first, PyTorch imports NumPy, and swallows a Ctrl-C meanwhile
    import torch

Path_ = str | os.PathLike[str]


def train_bilm(
    inputs: Path_ | Sequence[Path_],
    folder: Path_,
    *,
    options: ElmoOptions | None = None,
    config: Path_ | ElmoConfig | None = None,
    held_out: Path_ | Sequence[Path_] | None = None,
    min_count: int = 1,
    max_vocab: int | None = None,
    softmax: SoftmaxChoice = "auto",
    epochs: int = 10,
    batch_size: int = 128,
    unroll_steps: int = 20,
    optimizer: Optimizer = "adam",
    learning_rate: float | None = None,
    warm_up_steps: int = 0,
    schedule: Schedule = "linear",
    max_norm: float = 10.0,
    dropout: float = 0.1,
    precision: TrainingPrecision = "float32",
    device: str | int | torch.device | None = None,
    seed: int = 0,
    checkpoint_steps: int = 1000,
    resume: bool = False,
    overwrite: bool = False,
    console: Console | None = None,
    plain: bool = False,
) -> BilmReport:
    """Trains ELMo's biLM on text, into a run folder: weights that every `config=` takes, and what they were made with.

    A forward and a backward language model with one character CNN and one softmax, both learning to predict the next
    word; their loss is the mean of both. The state of the LSTMs goes on from step to step, and gradients go back
    `unroll_steps` words.

    A process may be killed at any moment: with `resume=True` the training goes on from its last checkpoint, and on one
    CPU, with the same number of threads, it ends with the very weights that it would have had.

    Args:
        inputs: a path, URL or glob, or a list of these, see `Corpus`: a sentence a line, its tokens between whitespace.
            They are read once to count words, and once an epoch; and at every start for their SHA-256, by which a
            resumed run knows them.
        folder: the run folder, see `BilmRunFolder`.
        options: the sizes of a new biLM, such as `options_of_size("small")`. Either this or `config`.
        config: the weights to go on from, such as published ones, see `ElmoConfig.load`. The softmax is new. They must
            not be in a run folder that `overwrite` replaces.
        held_out: text to measure on, which never trains anything; it decides which weights are kept. It is read once
            before the training, and at every checkpoint.
        min_count, max_vocab: which words are predicted, see `Vocabulary.count`. Others are `<UNK>` as predictions; what
            the biLM reads are characters, of any word.
        softmax: `"full"`, `"adaptive"`, which is quicker for large vocabularies, or `"auto"`: full up to 20,000 words.
        epochs: how often to go through the text.
        batch_size: rows that are trained together, each a stream of sentences.
        unroll_steps: words of each row in a step.
        optimizer: `"adam"`, or `"adagrad"` as bilm-tf has it.
        learning_rate: by default 1e-3 for Adam, 0.2 for Adagrad.
        warm_up_steps: steps in which the learning rate rises to that.
        schedule: `"linear"` lets it fall to 0 over the rest of the training, `"constant"` keeps it.
        max_norm: longer gradients are cut to this norm. As in bilm-tf they are those of `unroll_steps` times the loss.
        dropout: see `LanguageModel`.
        precision: see `LanguageModel`. Weights and the optimizer are float32 in any case.
        device: the CPU by default, or a GPU such as `"cuda"`.
        seed: of the weights, the dropout and the order of the sentences.
        checkpoint_steps: how often to measure and to save.
        resume: continue the run in the folder; where there is none yet, begin it.
        overwrite: replace the run in the folder.
        console: where to show progress, as a bar on a terminal; None for nowhere.
        plain: lines in the place of the bar.

    Returns:
        A `BilmReport`.

    Raises:
        InputTypeError, InputValueError: an argument, or the text; the folder holds something else than the run to
            resume; or the loss is no number any more, where the last checkpoint stays.
        ResourceNotFoundError: an input is not there.
        ConfigError, CheckpointError: see `Checkpoint.open`; or a file of the run to resume is damaged.
        OutputError: the folder can't be written, or its disk is full. The last checkpoint stays.
        ProcessError: another process trains into the folder; or this one has imported TensorFlow, and an optimizer of
            PyTorch's CUDA build would end it.
        KeyboardInterrupt: at Ctrl-C, when the state of the step is saved.

    Example:
        >>> from bridge.pretrain.sizes import options_of_size
        >>> report = train_bilm("news/*.txt.gz", "run", options=options_of_size("small"), held_out="dev.txt")
        >>> encoder = ElmoEncoder("run/elmo.ini")

    Reference:
        Peters et al. 2018, "Deep contextualized word representations"; bilm-tf, `bilm.training.train`.
    """
    if (options is None) == (config is None):
        received = "neither" if options is None else "both"
        raise InputValueError(
            f"Either `options` or `config` must be given. Received: {received}. Give the sizes of a new biLM, or the "
            "weights to go on from."
        )
    if options is not None and not isinstance(options, ElmoOptions):
        raise InputTypeError(
            f"`options` must be ElmoOptions. Received: {options!r:.80} of type {type(options).__name__}. Use "
            "`options_of_size`, or `read_options` for a file."
        )
    for name, value in (("resume", resume), ("overwrite", overwrite), ("plain", plain)):
        check_boolean(name, value)
    if learning_rate is None:
        learning_rate = LEARNING_RATES.get(optimizer, 1.0)  # an unknown one is told there
    settings = Settings(
        epochs=epochs,
        batch_size=batch_size,
        unroll_steps=unroll_steps,
        optimizer=optimizer,
        learning_rate=learning_rate,
        warm_up_steps=warm_up_steps,
        schedule=schedule,
        max_norm=max_norm,
        dropout=dropout,
        precision=precision,
        softmax=softmax,
        min_count=min_count,
        max_vocab=max_vocab,
        seed=seed,
        checkpoint_steps=checkpoint_steps,
    )
    check_process()
    run = Run(
        settings,
        BilmRunFolder(folder),
        open_text("inputs", inputs),
        None if held_out is None else open_text("held_out", held_out),
        options,
        None if config is None else Checkpoint.open(config),
        as_device(device),
    )
    return run.execute(console, resume=resume, overwrite=overwrite, plain=plain)
