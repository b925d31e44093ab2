"""A training's history for TensorBoard."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import tensorflow as tf

from bridge.layers.callbacks import write_scalar


class TensorBoardLog:
    """Scalars by epoch, under `train/` and `validation/` as Keras's own callback has them. Writes without TensorBoard.

    It is begun anew from the history, so that a resumed run shows every epoch once.

    Args:
        folder: where to write; what is there is replaced.
        history: the epochs that are done.
    """

    def __init__(self, folder: Path, history: Mapping[str, Sequence[float]]) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        self._folder = folder
        self._writers: dict[str, tf.summary.SummaryWriter] = {}
        for epoch, values in enumerate(zip(*history.values(), strict=True)):
            self.write(epoch, dict(zip(history, values, strict=True)))

    def write(self, epoch: int, logs: Mapping[str, float]) -> None:
        """Writes the numbers of an epoch, counted from 0."""
        for name, value in logs.items():
            kind = "validation" if name.startswith("val_") else "train"
            tag = name if "/" in name else f"epoch_{name.removeprefix('val_')}"
            if kind not in self._writers:
                self._writers[kind] = tf.summary.create_file_writer(str(self._folder / kind))
            with self._writers[kind].as_default():  # and flushes
                write_scalar(tag, value, epoch)

    def close(self) -> None:
        """Closes the files."""
        for writer in self._writers.values():
            writer.close()
