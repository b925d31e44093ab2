"""How a biLM's training shows that it moves: a bar on a terminal, plain lines in a log."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Column

from bridge.corpus.sources import Corpus
from bridge.pretrain.history import Row
from bridge.pretrain.vocabulary import CorpusCounts

SECONDS_BETWEEN_LINES = 30.0
# Perplexities that are shown are of so many steps.
SHOWN_STEPS = 100


class PretrainProgress:
    """Shows how far a training is, and how well it predicts.

    Args:
        steps: of the whole training.
        first: steps that are done.
        console: where to write; None for nowhere.
        plain: lines in the place of the bar.
    """

    def __init__(self, steps: int, first: int, console: Console | None, plain: bool) -> None:
        self._steps, self._first, self._words = steps, first, 0
        self._console = console
        self._began = self._last_line = time.monotonic()
        self._losses: deque[tuple[float, float]] = deque(maxlen=SHOWN_STEPS)
        self._bar = _bar(console, plain, MofNCompleteColumn(table_column=Column(no_wrap=True)))
        if self._bar is not None:
            self._bar.add_task("", total=steps, completed=first)

    def shown(self) -> AbstractContextManager[Any]:
        """Shows the bar, and takes it away."""
        return self._bar or nullcontext()

    def begin(self, counts: CorpusCounts, words: int, parameters: int) -> None:
        """Tells what there is to do."""
        self._words = words
        self._print(
            f"{counts.sentences:,} sentences, {counts.tokens:,} tokens; {words:,} words to predict, to which "
            f"{counts.unknown / counts.tokens:.1%} of the tokens are unknown; {parameters:,} parameters; "
            f"{self._steps:,} steps"
        )
        if self._first:
            self._print(f"{self._first:,} steps are done already")

    def advance(self, step: int, epoch: int, losses: tuple[float, float], tokens_per_second: float) -> None:
        """So many steps are done, the last one with these losses, forward and backward."""
        self._losses.append(losses)
        if self._bar is not None:
            forward, backward = map(_short, self._perplexities())
            numbers = f"epoch {epoch}  {forward} / {backward}  {tokens_per_second:,.0f} tokens/s"
            self._bar.update(self._bar.task_ids[0], completed=step, description=numbers)
        elif self._console is not None and time.monotonic() - self._last_line >= SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            left = (self._last_line - self._began) / (step - self._first) * (self._steps - step)
            self._print(
                f"step {step:,}/{self._steps:,}, epoch {epoch}, perplexity {perplexities(*self._perplexities())}, "
                f"{tokens_per_second:,.0f} tokens/s, {duration(left)} left"
            )

    def checkpoint(self, row: Row) -> None:
        """A checkpoint is written."""
        reached = [row["forward_perplexity"], row["backward_perplexity"]]
        parts = [
            f"checkpoint at step {row['step']:,}/{self._steps:,}, epoch {row['epoch']}",
            f"perplexity {perplexities(*reached)}",
        ]
        if row["held_out_forward_perplexity"] is not None:
            reached = [row["held_out_forward_perplexity"], row["held_out_backward_perplexity"]]
            parts.append(f"held out {perplexities(*reached)}")
        self._print(f"{', '.join(parts)}, {row['tokens_per_second']:,.0f} tokens/s")
        if max(value for value in reached if value is not None) > self._words:
            self._print(
                f"that is worse than to guess one of {self._words:,} words: if it stays so, train anew with a lower "
                "`learning_rate` (--learning-rate) or a longer warm-up (`warm_up_steps`, --warm-up-steps)"
            )

    def _perplexities(self) -> tuple[float, float]:
        forward, backward = (perplexity(sum(losses) / len(losses)) for losses in zip(*self._losses, strict=True))
        return forward, backward

    def _print(self, text: str) -> None:
        if self._console is not None:
            self._console.print(text, soft_wrap=True, highlight=False)


def counted(corpus: Corpus, console: Console | None, plain: bool) -> Iterator[list[str]]:
    """The sentences of a corpus, with a bar."""
    bar = _bar(console, plain, TaskProgressColumn(table_column=Column(no_wrap=True)))
    if bar is None:
        yield from (sentence.tokens for sentence in corpus.sentences())
        return
    with bar:
        task = bar.add_task("counting words", total=corpus.total_bytes)
        for number, sentence in enumerate(corpus.sentences()):
            if number % 10_000 == 0:
                bar.update(task, completed=corpus.position)
            yield sentence.tokens


def perplexity(loss: float) -> float:
    """Of a mean negative log likelihood in nats, 709 at most."""
    return math.exp(loss)


def perplexities(forward: float | None, backward: float | None) -> str:
    """Both directions for a line."""
    return f"{forward:.2f} forward {backward:.2f} backward"


def duration(seconds: float) -> str:
    """For a line."""
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds:.0f} s"


def _short(perplexity: float) -> str:
    """Seven characters at most, or eight beyond 1e100."""
    if perplexity >= 999_999.5:
        return f"{perplexity:.1e}"
    return f"{perplexity:.2f}" if perplexity < 1000 else f"{perplexity:,.0f}"


def _bar(console: Console | None, plain: bool, column: ProgressColumn) -> Progress | None:
    """All of it has room in 80 columns: where it gets narrow, the bar alone gives way."""
    if console is None or not console.is_terminal or plain:
        return None
    timing = (TextColumn("left"), TimeRemainingColumn(table_column=Column(no_wrap=True)))
    columns = (BarColumn(), column, TextColumn("{task.description}"), *timing)
    return Progress(*columns, console=console, transient=True)
