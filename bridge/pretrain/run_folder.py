"""The folder of a biLM's training run."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np

import bridge.run_folder
from bridge.errors import BridgeError, OutputError
from bridge.locked_folder import locked
from bridge.pretrain.export import write_checkpoint
from bridge.resources.config import ElmoConfig
from bridge.resources.options import ElmoOptions
from bridge.whole_file import FULL, write_file

INI = """\
# The weights of this run, for `config=` and --config.
[ELMO]
options_file = options.json
weight_file = weights.hdf5
"""


class BilmRunFolder(bridge.run_folder.RunFolder):
    """The folder of a biLM's training run.

    | file | what it is |
    |---|---|
    | `run.json` | arguments, sizes, fingerprints of the text, its counts, versions |
    | `vocabulary.txt` | the words that are predicted, in the order of their ids |
    | `options.json`, `weights.hdf5` | the biLM, of the checkpoint with the best held-out perplexity, or the last one |
    | `elmo.ini` | names the two, for `config=` |
    | `state.npz` | everything that the next step starts from |
    | `history.csv` | a line a checkpoint |
    | `tensorboard/` | the same for TensorBoard |

    Args:
        path: the folder; it need not exist.
    """

    FORMAT = 1
    MADE_BY = "elmo-bridge pretrain"

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(path, files=("elmo.ini", "weights.hdf5", "options.json", "vocabulary.txt"))
        self.config_file = self.path / "elmo.ini"
        self.vocabulary_file = self.path / "vocabulary.txt"

    def write_weights(self, options: ElmoOptions, weights: Mapping[str, np.ndarray]) -> None:
        """Writes the biLM for inference, whatever the options of the training said of the characters."""
        write_checkpoint(self.path, for_inference(options), weights)
        write_file(self.config_file, lambda path: path.write_text(INI, encoding="utf-8"))

    def going_on(self) -> str:
        """How a new run goes on from the weights; nothing where there are none yet."""
        if not self.config_file.exists():
            return ""
        return (
            " The weights in the run folder stay, and a new run can go on from them: give it "
            f"{self.config_file} as `config` (--config), and another folder."
        )

    def config(self) -> ElmoConfig:
        """The weights of the run."""
        return ElmoConfig.load(Path(os.path.abspath(self.config_file)))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Makes the folder, for this process alone; where nothing comes into it, it goes again.

        Raises:
            ProcessError: another process trains into it.
            OutputError: it can't be made.
        """
        is_new = not self.path.exists()
        with self.writing():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = locked(self.path, self.path)
        try:
            yield
        finally:
            if is_new and not any(self.path.iterdir()):
                self.path.rmdir()
            os.close(descriptor)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Tells what to do where the folder can't be written.

        Raises:
            OutputError: its disk is full, or it can't be written at all.
        """
        try:
            yield
        except OSError as error:
            if isinstance(error, BridgeError):
                raise
            reason = f"{str(self.path)!r} ({os.strerror(error.errno) if error.errno else error})"
            if error.errno in FULL:
                raise OutputError(
                    "The run folder must be on a disk with room, and within the limits of the process. Received: "
                    f"{reason}. The last checkpoint stays: free some room, and continue with `resume` (--resume)."
                ) from error
            if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.ENOTDIR):
                raise OutputError(
                    f"The run folder must be one that can be written. Received: {reason}. Correct the permissions, or "
                    "name another folder."
                ) from error
            raise


def for_inference(options: ElmoOptions) -> ElmoOptions:
    """The options with 262 characters, as published models have them: 261 is of training files."""
    characters = options.char_cnn.model_copy(update={"n_characters": 262})
    return options.model_copy(update={"char_cnn": characters})
