"""What a biLM's training has reached, a row a checkpoint: `History`."""

from __future__ import annotations

import csv
import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from bridge.event_file import EventFile
from bridge.whole_file import write_file

Row = Mapping[str, float | None]

COLUMNS = (
    "step",
    "epoch",
    "tokens",
    "tokens_per_second",
    "forward_perplexity",
    "backward_perplexity",
    "held_out_forward_perplexity",
    "held_out_backward_perplexity",
    "learning_rate",
    "gradient_norm",
)
HELD_OUT = "held_out_"


def best_row(rows: Sequence[Row]) -> Row:
    """The checkpoint whose weights are kept: of the best held-out perplexity, and of equal ones the first.

    Args:
        rows: one at least. Where nothing is held out, it is the last.
    """
    if rows[-1][f"{HELD_OUT}forward_perplexity"] is None:
        return rows[-1]
    return min(rows, key=_held_out_loss)


def _held_out_loss(row: Row) -> float:
    forward, backward = row[f"{HELD_OUT}forward_perplexity"], row[f"{HELD_OUT}backward_perplexity"]
    assert forward is not None
    assert backward is not None
    return math.log(forward) + math.log(backward)


class History:
    """The rows, as `history.csv` and for TensorBoard. Both are made anew when a run is resumed.

    TensorBoard has the curves by step under `train/` and `validation/`.

    Args:
        file: the CSV file.
        tensorboard_folder: what is there is replaced.
        rows: of the checkpoints so far, to which the training appends: a number for every column, None for what was
            not measured.
    """

    def __init__(self, file: Path, tensorboard_folder: Path, rows: Sequence[Row]) -> None:
        self._rows = rows
        self._file = file
        shutil.rmtree(tensorboard_folder, ignore_errors=True)
        self._folder = tensorboard_folder
        self._event_files: dict[str, EventFile] = {}
        self.write_csv()
        for row in rows:
            self.write_tensorboard(row)

    def write_csv(self) -> None:
        """Writes all rows."""

        def write(path: Path) -> None:
            with open(path, "w", encoding="utf-8", newline="") as file:
                rows = csv.DictWriter(file, COLUMNS, lineterminator="\n")
                rows.writeheader()
                rows.writerows(self._rows)

        write_file(self._file, write)

    def write_tensorboard(self, row: Row) -> None:
        """Adds a row to the curves."""
        for name, value in row.items():
            if name != "step" and value is not None:
                kind = "validation" if name.startswith(HELD_OUT) else "train"
                if kind not in self._event_files:
                    self._event_files[kind] = EventFile(self._folder / kind)
                self._event_files[kind].write(name.removeprefix(HELD_OUT), value, int(row["step"] or 0))

    def close(self) -> None:
        """Closes the files."""
        for file in self._event_files.values():
            file.close()
