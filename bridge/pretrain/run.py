"""One training of a biLM, from its run folder to its report: `Run`."""

from __future__ import annotations

import platform
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, NamedTuple

import h5py
import numpy as np
import torch
from rich.console import Console

import bridge
from bridge.corpus.sources import Corpus
from bridge.errors import CheckpointError, InputValueError
from bridge.pretrain.batches import TrainingBatches
from bridge.pretrain.held_out import held_out_losses
from bridge.pretrain.history import HELD_OUT, Row, best_row
from bridge.pretrain.language_model import LanguageModel
from bridge.pretrain.progress import PretrainProgress, counted
from bridge.pretrain.run_folder import BilmRunFolder, for_inference
from bridge.pretrain.settings import Settings
from bridge.pretrain.text import fingerprint, held_out_sentences
from bridge.pretrain.trainer import Trainer
from bridge.pretrain.vocabulary import CorpusCounts, Vocabulary
from bridge.pretrain.weights import initial_weights
from bridge.resources.checkpoint import Checkpoint, expected_datasets
from bridge.resources.config import ElmoConfig
from bridge.resources.options import ElmoOptions
from bridge.resources.weight_file import read_weights


class Perplexities(NamedTuple):
    """Of both directions."""

    forward: float
    backward: float


@dataclass(frozen=True)
class BilmReport:
    """What `train_bilm` did.

    Attributes:
        config: the weights, of the checkpoint with the best held-out perplexity, or the last one.
        steps: of the whole run.
        tokens: what each direction has predicted in the whole run, sentence boundaries included.
        seconds: of training in this process, and `tokens_per_second`, the tokens of these; without checkpoints.
        perplexities: of the training text, since the last checkpoint but one.
        held_out_perplexities: of the checkpoint whose weights these are; None where nothing is held out.
        vocabulary_size: number of words that were predicted, with the three that are none.
    """

    config: ElmoConfig
    steps: int
    tokens: int
    seconds: float
    tokens_per_second: float
    perplexities: Perplexities
    held_out_perplexities: Perplexities | None
    vocabulary_size: int


class Run(NamedTuple):
    """A training, its arguments checked."""

    settings: Settings
    folder: BilmRunFolder
    text: Corpus
    held_out: Corpus | None
    options: ElmoOptions | None
    checkpoint: Checkpoint | None
    device: torch.device

    @property
    def sizes(self) -> ElmoOptions:
        options = self.checkpoint.options if self.checkpoint else self.options
        assert options is not None  # checked
        return options

    def execute(self, console: Console | None, *, resume: bool, overwrite: bool, plain: bool) -> BilmReport:
        """Trains what is not trained yet; see `train_bilm`."""
        exists = self.folder.check(resume=resume, overwrite=overwrite)
        if exists and overwrite:
            self._check_weights_stay()
        with self.folder.locked():
            vocabulary, counts = self._begin(exists and resume, overwrite, console, plain)
            return self._train(vocabulary, counts, console, plain)

    def _begin(
        self, resumes: bool, overwrite: bool, console: Console | None, plain: bool
    ) -> tuple[Vocabulary, CorpusCounts]:
        """Begins the run folder, or checks that it is of this run; words are counted once."""
        if self.held_out is not None:  # what is wrong with it is told now, and not at the first checkpoint
            deque(held_out_sentences(self.held_out), maxlen=0)
        everything = {
            "arguments": asdict(self.settings),
            "options": for_inference(self.sizes).model_dump(mode="json"),
            "weights": self.checkpoint and self.checkpoint.fingerprint,
            "text": fingerprint(self.text),
            "held_out": self.held_out and fingerprint(self.held_out),
        }
        if resumes:
            self.folder.begin(everything, resume=True, overwrite=False)
            counts = self._counts()
            if self.folder.vocabulary_file.exists():
                return self._vocabulary(), counts
        sentences = counted(self.text, console, plain)
        vocabulary, counts = Vocabulary.count(
            sentences, min_count=self.settings.min_count, max_vocab=self.settings.max_vocab
        )
        if not resumes:
            self.settings.steps(counts.positions)  # before a run is replaced
            notes = {
                "counts": counts._asdict(),
                "versions": _versions(),
                "machine": _machine(self.device),
            }
            with self.folder.writing():
                self.folder.begin(everything, resume=False, overwrite=overwrite, notes=notes)
        with self.folder.writing():
            vocabulary.save(self.folder.vocabulary_file)
        return vocabulary, counts

    def _check_weights_stay(self) -> None:
        """Raises InputValueError where the run that is to be replaced has the weights to go on from."""
        for file in (self.checkpoint.weight_file, self.checkpoint.options_file) if self.checkpoint else ():
            if file.resolve().is_relative_to(self.folder.path.resolve()):
                raise InputValueError(
                    "`config` (--config) must be outside of the run folder that `overwrite` (--overwrite) replaces. "
                    f"Received: {str(file)!r}, in {str(self.folder.path)!r}. Name another run folder."
                )

    def _counts(self) -> CorpusCounts:
        """As the run folder has them."""
        try:
            return CorpusCounts(**self.folder.settings()["counts"])
        except (KeyError, TypeError) as error:
            raise CheckpointError(
                f"{self.folder.settings_file} must have the counts of the text. Received: a damaged file ({error}). "
                "Train into another folder, or replace the run with `overwrite` (--overwrite)."
            ) from error

    def _tell_changes(self, console: Console | None) -> None:
        """Tells where the rest of a run can't be the same to the last bit."""
        settings = self.folder.settings()
        began = {**settings.get("machine", {}), "torch": settings.get("versions", {}).get("torch")}
        now = {**_machine(self.device), "torch": torch.__version__}
        changes = [f"{name} was {began.get(name)}, is {now[name]}" for name in now if began.get(name) != now[name]]
        if changes and console is not None:
            console.print(
                f"{'; '.join(changes)}: the run goes on, but not to the last bit as it would have",
                soft_wrap=True,
                highlight=False,
                markup=False,
            )

    def _vocabulary(self) -> Vocabulary:
        try:
            return Vocabulary.load(self.folder.vocabulary_file)
        except InputValueError as error:
            raise CheckpointError(
                f"{self.folder.vocabulary_file} must be the vocabulary that the run began with. Received: a damaged "
                f"file ({error}). Delete it and resume again: the words are counted again."
            ) from error

    def _train(self, vocabulary: Vocabulary, counts: CorpusCounts, console: Console | None, plain: bool) -> BilmReport:
        settings = self.settings
        steps = settings.steps(counts.positions)
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):  # the caller's random numbers are not ours
            model = LanguageModel(
                self.sizes,
                self._weights(),
                len(vocabulary),
                softmax=settings.softmax_for(len(vocabulary)),
                dropout=settings.dropout,
                precision=settings.precision,
                seed=settings.seed,
            ).to(self.device)
            shape = {"batch_size": settings.batch_size, "unroll_steps": settings.unroll_steps}
            batches = TrainingBatches(self.text, vocabulary, **shape, seed=settings.seed)
            measure = None
            if self.held_out is not None:
                measure = partial(held_out_losses, model, self.held_out, vocabulary, **shape)
            with self.folder.writing():
                trainer = Trainer(model, batches, self.folder, settings, steps, measure)
            progress = PretrainProgress(steps, trainer.step, console, plain)
            with self.folder.writing(), progress.shown():
                progress.begin(counts, len(vocabulary), sum(values.numel() for values in model.parameters()))
                if trainer.step < steps:
                    self._tell_changes(console)
                trainer.run(progress)
        return _report(trainer, len(vocabulary))

    def _weights(self) -> Mapping[str, np.ndarray]:
        if self.checkpoint is None:
            return initial_weights(self.sizes, self.settings.seed)
        with h5py.File(self.checkpoint.weight_file, "r") as file:
            return {name: read_weights(file, name) for name in expected_datasets(self.sizes)}


def _report(trainer: Trainer, vocabulary_size: int) -> BilmReport:
    return BilmReport(
        config=trainer.folder.config(),
        steps=trainer.step,
        tokens=trainer.tokens,
        seconds=trainer.seconds,
        tokens_per_second=trainer.tokens_per_second,
        perplexities=_perplexities(trainer.rows[-1], ""),
        held_out_perplexities=None if trainer.measure is None else _perplexities(best_row(trainer.rows), HELD_OUT),
        vocabulary_size=vocabulary_size,
    )


def _perplexities(row: Row, prefix: str) -> Perplexities:
    forward, backward = (row[f"{prefix}{direction}_perplexity"] for direction in ("forward", "backward"))
    assert forward is not None
    assert backward is not None
    return Perplexities(forward, backward)


def _versions() -> dict[str, str]:
    return {"elmo-keras-bridge": bridge.__version__, "python": platform.python_version(), "torch": torch.__version__}


def _machine(device: torch.device) -> dict[str, Any]:
    """What the last bits of a training depend on, beside PyTorch's version."""
    return {"threads": torch.get_num_threads(), "device": str(device)}
