"""The folder of a head's training run."""

from __future__ import annotations

import os

import bridge.run_folder


class RunFolder(bridge.run_folder.RunFolder):
    """The folder of a head's training run.

    | file | what it is |
    |---|---|
    | `run.json` | task, labels, arguments, and fingerprints of the data and the weights |
    | `model.keras` | the model of the best epoch |
    | `state.npz` | everything that the next epoch starts from |
    | `history.csv` | a line an epoch: losses, metrics, the mix |
    | `curves.png` | the same as a picture |
    | `tensorboard/` | the same for TensorBoard |

    Args:
        path: the folder; it need not exist.
    """

    FORMAT = 1
    MADE_BY = "elmo-bridge train"

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(path, files=("model.keras", "curves.png"))
        self.model_file = self.path / "model.keras"
        self.curves_file = self.path / "curves.png"
