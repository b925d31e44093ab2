"""How an embedding shows that it moves: a bar on a terminal, plain lines in a log."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

SECONDS_BETWEEN_LINES = 10.0


class Measured(Protocol):
    """What is read, such as a `Corpus`: bytes read so far, and of all; None where nobody knows."""

    total_bytes: int | None

    @property
    def position(self) -> float: ...


class EmbedProgress:
    """Counts what is done, and shows it.

    Args:
        corpus: what is read, and how much of it there is.
        console: where to write; None for nowhere.
        plain: lines in the place of the bar.

    Attributes:
        sentences, tokens: what was embedded.
        hit_rate: the share of tokens whose vectors the encoder remembered, from 0 to 1.
    """

    def __init__(self, corpus: Measured, console: Console | None, plain: bool = False) -> None:
        self._corpus = corpus
        self._console = console
        self._began = self._last_line = time.monotonic()
        self.sentences = self.tokens = 0
        self.hit_rate = 0.0
        self._bar: Progress | None = None
        if console is not None and console.is_terminal and not plain:
            timing = (TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
            columns = (BarColumn(), TaskProgressColumn(), TextColumn("{task.description}"), *timing)
            self._bar = Progress(*columns, console=console, transient=True)
            self._bar.add_task("", total=corpus.total_bytes)
        # Where the window that is computed began and ends in the input, and how much of it is done.
        self._window = (0.0, 0.0)
        self._window_tokens, self._window_done = 0, 0
        self._skipped_to = 0.0

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    @property
    def seconds(self) -> float:
        """Since the begin."""
        return time.monotonic() - self._began

    @property
    def tokens_per_second(self) -> float:
        """Of what was embedded."""
        return self.tokens / max(self.seconds, 1e-9)

    def skip(self) -> None:
        """What was read up to here is done already."""
        self._window = (self._corpus.position, self._corpus.position)
        self._skipped_to = self._corpus.position

    def begin_window(self, empty_sentences: int, tokens: int) -> None:
        """So many were read: the first are done, the others are computed next."""
        self.sentences += empty_sentences
        self._window = (self._window[1], self._corpus.position)
        self._window_tokens, self._window_done = tokens, 0

    def advance(self, sentences: int, tokens: int, hit_rate: float) -> None:
        """So many more are embedded."""
        self.sentences += sentences
        self.tokens += tokens
        self._window_done += tokens
        self.hit_rate = hit_rate
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=self._position(), description=self._rates())
        elif self._console is not None and time.monotonic() - self._last_line >= SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            self._console.print(f"{self._share()}{self._rates()}{self._left()}", soft_wrap=True, highlight=False)

    def _position(self) -> float:
        """Bytes of the input that are embedded, as far as the tokens of the window tell."""
        begin, end = self._window
        return begin + (end - begin) * self._window_done / max(1, self._window_tokens)

    def _rates(self) -> str:
        return (
            f"{self.sentences:,} sentences, {self.tokens:,} tokens, {self.tokens_per_second:,.0f} tokens/s, "
            f"cache hits {self.hit_rate:.0%}"
        )

    def _share(self) -> str:
        return f"{self._position() / self._corpus.total_bytes:4.0%}  " if self._corpus.total_bytes else ""

    def _left(self) -> str:
        if not self._corpus.total_bytes:
            return ""
        done = self._position() - self._skipped_to
        left = self.seconds * (self._corpus.total_bytes - self._position()) / max(done, 1.0)
        return f", {left / 3600:.1f} h left" if left >= 3600 else f", {left:.0f} s left"
