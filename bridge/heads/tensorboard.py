"""A training's history for TensorBoard."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from bridge.event_file import EventFile


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
        self._files: dict[str, EventFile] = {}
        for epoch, values in enumerate(zip(*history.values(), strict=True)):
            self.write(epoch, dict(zip(history, values, strict=True)))

    def write(self, epoch: int, logs: Mapping[str, float]) -> None:
        """Writes the numbers of an epoch, counted from 0."""
        for name, value in logs.items():
            kind = "validation" if name.startswith("val_") else "train"
            tag = name if "/" in name else f"epoch_{name.removeprefix('val_')}"
            if kind not in self._files:
                self._files[kind] = EventFile(self._folder / kind)
            self._files[kind].write(tag, value, epoch)

    def close(self) -> None:
        """Closes the files."""
        for file in self._files.values():
            file.close()
