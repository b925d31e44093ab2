"""Training a biLM: `LanguageModel` beside a straightforward loop over AllenNLP's modules, from the same weights."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import chain, islice, repeat
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import h5py
import torch
from rich.table import Table

from benchmarking.memory import resident
from benchmarking.speed import Record
from bridge import Checkpoint, ElmoConfig, batch_to_ids
from bridge.corpus.sources import Corpus
from bridge.pretrain.batches import Batch, TrainingBatches
from bridge.pretrain.language_model import LanguageModel, Precision, Softmax
from bridge.pretrain.optimizers import make_optimizer
from bridge.pretrain.settings import LEARNING_RATES, MOST_WORDS_OF_FULL_SOFTMAX
from bridge.pretrain.vocabulary import Vocabulary
from bridge.resources.checkpoint import expected_datasets
from bridge.resources.weight_file import read_weights
from bridge.text.readers import Example

# Batches, optimizer and clipping are those that `train_bilm` has by default.
BATCH_SIZE, UNROLL_STEPS, MAX_NORM = 128, 20, 10.0
TOKENS = BATCH_SIZE * UNROLL_STEPS
VOCABULARY_TOKENS = 400_000
ALLENNLP = "loop over AllenNLP's ElmoLstm"
# Of an optimizer that keeps moments, the second step is as large as all that follow.
WARM_UP_STEPS, MEMORY_STEPS = 1, 2


class SentenceBatch(NamedTuple):
    """Whole sentences, padded to the longest."""

    char_ids: torch.Tensor
    """int64 `(sentences, timesteps, 50)`"""
    targets: tuple[torch.Tensor, torch.Tensor]
    """int64 `(sentences, timesteps + 1)`, forward and backward; -1 behind a sentence's end."""


class Text(NamedTuple):
    """A batch a step, of the same sentences in both kinds, made ready before anything is timed."""

    words: int
    rows: list[Batch]
    sentences: list[SentenceBatch]

    @property
    def softmax(self) -> Softmax:
        """What `train_bilm` chooses for so many words."""
        return "full" if self.words <= MOST_WORDS_OF_FULL_SOFTMAX else "adaptive"


def make_text(examples: Iterator[Example], steps: int, max_vocab: int | None, seed: int) -> Text:
    """Text for a warm-up and so many steps, of which each predicts the tokens of one of `train_bilm`, or a few more.

    The vocabulary is that of more text than is trained on, as it would be.
    """
    steps += WARM_UP_STEPS
    taken: list[list[str]] = []
    tokens = 0
    while tokens < max(VOCABULARY_TOKENS, steps * TOKENS) and (example := next(examples, None)):
        taken.append(example.tokens)
        tokens += len(example.tokens)
    vocabulary, _ = Vocabulary.count(taken, max_vocab=max_vocab)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "text.txt"
        path.write_text("".join(f"{' '.join(sentence)}\n" for sentence in taken), encoding="utf-8")
        batches = TrainingBatches(Corpus(path), vocabulary, batch_size=BATCH_SIZE, unroll_steps=UNROLL_STEPS, seed=seed)
        rows = list(islice(batches, steps))
    sentences = chain.from_iterable(repeat(taken))  # a short file is read again, as that of the rows
    return Text(len(vocabulary), rows, [sentence_batch(sentences, vocabulary) for _ in range(steps)])


def sentence_batch(sentences: Iterator[list[str]], vocabulary: Vocabulary) -> SentenceBatch:
    """The next sentences, in their order, until they are the tokens of a step."""
    taken: list[list[str]] = []
    while sum(len(sentence) + 1 for sentence in taken) < TOKENS:
        taken.append(next(sentences))
    char_ids = torch.from_numpy(batch_to_ids(taken).astype("int64"))
    forward, backward = (torch.full((len(taken), char_ids.shape[1] + 1), -1) for _ in range(2))
    begin, end = vocabulary.ids(["<S>", "</S>"])
    for row, sentence in enumerate(taken):
        words = vocabulary.ids(sentence)
        forward[row, : len(words) + 1] = torch.tensor([*words, end])
        backward[row, : len(words) + 1] = torch.tensor([begin, *words])
    return SentenceBatch(char_ids, (forward, backward))


class _Training:
    """A contestant: parameters and their optimizer."""

    def __init__(self, checkpoint: Checkpoint, text: Text, precision: Precision) -> None:
        with h5py.File(checkpoint.weight_file) as file:
            weights = {name: read_weights(file, name) for name in expected_datasets(checkpoint.options)}
        # AllenNLP's LSTM drops nothing of its inputs: neither does this.
        self.model = LanguageModel(
            checkpoint.options, weights, text.words, softmax=text.softmax, dropout=0.0, precision=precision
        )
        self.optimizer = self.make_optimizer()

    def make_optimizer(self) -> torch.optim.Optimizer:
        """Adam."""
        raise NotImplementedError

    def losses(self, text: Text, number: int) -> tuple[torch.Tensor, int]:
        """Of a batch, forward and backward; and how many tokens each direction predicts in it."""
        raise NotImplementedError

    def step(self, text: Text, number: int) -> int:
        """Trains on a batch; returns how many tokens each direction predicted."""
        losses, tokens = self.losses(text, number)
        self.optimizer.zero_grad(set_to_none=True)
        (losses.mean() * UNROLL_STEPS).backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), MAX_NORM)
        self.optimizer.step()
        return tokens


class AllenNlpTraining(_Training):
    """AllenNLP's `_ElmoBiLm`, whose `ElmoLstm` carries its state, on padded sentences; the softmax is the bridge's."""

    def make_optimizer(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.model.parameters(), lr=LEARNING_RATES["adam"])

    def losses(self, text: Text, number: int) -> tuple[torch.Tensor, int]:
        batch = text.sentences[number]
        top = self.model.bilm(batch.char_ids)["activations"][-1]  # (sentences, timesteps + 2, 2 * projection_dim)
        forward, backward = top.chunk(2, dim=-1)
        losses = []
        # Each direction has read up to a token, and predicts the next one.
        for vectors, targets in zip((forward[:, :-1], backward[:, 1:]), batch.targets, strict=True):
            predicted = targets >= 0
            losses.append(self.model.softmax(vectors[predicted], targets[predicted]))
        return torch.stack(losses), int((batch.targets[0] >= 0).sum())


class BridgeTraining(_Training):
    """`LanguageModel`, as `train_bilm` runs it."""

    def __init__(self, checkpoint: Checkpoint, text: Text, precision: Precision) -> None:
        super().__init__(checkpoint, text, precision)
        self.state = self.model.initial_state(text.rows[0].inputs.shape[2])

    def make_optimizer(self) -> torch.optim.Optimizer:
        return make_optimizer(self.model.parameters(), "adam", LEARNING_RATES["adam"])

    def losses(self, text: Text, number: int) -> tuple[torch.Tensor, int]:
        batch = text.rows[number]
        losses, self.state = self.model(batch, self.state)
        return losses, int((batch.targets[0] >= 0).sum())


def make_contestant(name: str, checkpoint: Checkpoint, text: Text) -> _Training:
    """By its name: AllenNLP's, or the bridge's with a precision behind it."""
    if name == ALLENNLP:
        return AllenNlpTraining(checkpoint, text, "float32")
    return BridgeTraining(checkpoint, text, "bfloat16" if name.endswith("bfloat16") else "float32")


def measure_training(checkpoint: Checkpoint, precisions: list[Precision], text: Text) -> list[Record]:
    """Times the contestants, a step a turn. They take turns, so that a slow moment of the machine hits all of them.

    Ratios are to the first, AllenNLP, in the same turn. Then each takes a few steps in a fresh process, whose memory is
    measured.
    """
    names = [ALLENNLP, *(f"LanguageModel {precision}" for precision in precisions)]
    contestants = {name: make_contestant(name, checkpoint, text) for name in names}
    turns: dict[str, list[tuple[int, float]]] = {name: [] for name in names}
    for number in range(len(text.rows)):
        for name, contestant in contestants.items():
            start = time.perf_counter()
            tokens = contestant.step(text, number)
            if number >= WARM_UP_STEPS:
                turns[name].append((tokens, time.perf_counter() - start))
    contestants.clear()
    return [
        {**_summed_up(name, turns[name], turns[ALLENNLP]), **_memory(checkpoint.config, name, text)} for name in names
    ]


def _summed_up(name: str, own: list[tuple[int, float]], reference: list[tuple[int, float]]) -> Record:
    rates, theirs = ([tokens / seconds for tokens, seconds in turns] for turns in (own, reference))
    ratios = [rate / other for rate, other in zip(rates, theirs, strict=True)]
    tokens, seconds = (list(values) for values in zip(*own, strict=True))
    figures = {"seconds": seconds, "tokens_per_second": rates, "ratios": ratios}
    medians = {key: statistics.median(values) for key, values in figures.items()}
    return {"contestant": name, "tokens": tokens, **figures, "medians": medians}


def _memory(config: ElmoConfig, name: str, text: Text) -> Record:
    """MiB that a fresh process takes."""
    few = text._replace(rows=text.rows[:MEMORY_STEPS], sentences=text.sentences[:MEMORY_STEPS])
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor:
        return executor.submit(_train, config, name, few).result()


def _train(config: ElmoConfig, name: str, text: Text) -> Record:
    contestant = make_contestant(name, Checkpoint.open(config), text)
    loaded = resident()
    for number in range(len(text.rows)):
        contestant.step(text, number)
    # Not getrusage: a process starts with its parent's peak there.
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {"loaded_mib": loaded, "peak_mib": int(status["VmHWM"].split()[0]) / 1024}


def training_table(records: list[Record]) -> Table:
    """A row a contestant."""
    table = Table("contestant", "tokens/s", "min to max", "ratio", "min to max", "seconds a step", "MiB at most")
    for column in table.columns[1:]:
        column.justify = "right"
    for record in records:
        rates, ratios = record["tokens_per_second"], record["ratios"]
        table.add_row(
            record["contestant"],
            f"{record['medians']['tokens_per_second']:,.0f}",
            f"{min(rates):,.0f} to {max(rates):,.0f}",
            f"{record['medians']['ratios']:.2f}x",
            f"{min(ratios):.2f} to {max(ratios):.2f}",
            f"{record['medians']['seconds']:.2f}",
            f"{record['peak_mib']:,.0f}",
        )
    return table
