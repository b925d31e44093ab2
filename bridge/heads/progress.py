"""How a training shows that it moves: a bar on a terminal, plain lines in a log."""

from __future__ import annotations

import time
from typing import Any

import keras
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class ProgressReport(keras.callbacks.Callback):
    """A bar of the current epoch where the console is a terminal, and a line for every epoch that is done.

    Args:
        console: where to write.
        title: begins every line.
    """

    def __init__(self, console: Console | None = None, title: str = "") -> None:
        super().__init__()
        self.console = console or Console()
        self.title = f"{title}  " if title else ""
        self._bar: Progress | None = None
        self._began = 0.0

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self._began = time.monotonic()
        if self.console.is_terminal:
            self._bar = Progress(
                TextColumn(f"{self.title}epoch {epoch + 1}/{self.params['epochs']}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.description}"),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                console=self.console,
                transient=True,
            )
            self._bar.add_task("", total=self.params["steps"])
            self._bar.start()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if self._bar is not None:
            text = f"loss {float(logs['loss']):.4f}" if logs else ""
            self._bar.update(self._bar.task_ids[0], completed=batch + 1, description=text)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self.close()
        numbers = "  ".join(f"{name} {float(value):.4f}" for name, value in (logs or {}).items())
        seconds = time.monotonic() - self._began
        self.console.print(
            f"{self.title}epoch {epoch + 1}/{self.params['epochs']}  {numbers}  {seconds:.1f} s",
            soft_wrap=True,
            highlight=False,
        )

    def close(self) -> None:
        """Removes the bar, also where an error ended the epoch."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
