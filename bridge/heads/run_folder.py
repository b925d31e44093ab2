"""The folder of a training run: its files, and what it was begun with."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bridge.errors import CheckpointError, InputValueError, ResourceNotFoundError, UnsupportedError
from bridge.whole_file import PARTIAL, write_file

FORMAT = 1


class RunFolder:
    """The folder of a training run.

    | file | what it is |
    |---|---|
    | `run.json` | task, labels, arguments, and fingerprints of the data and the weights |
    | `model.keras` | the model of the best epoch |
    | `state.npz` | everything that the next epoch starts from |
    | `history.csv` | a line an epoch: losses, metrics, the mix |
    | `curves.png` | the same as a picture |
    | `tensorboard/` | the same for TensorBoard |

    Every file is written under another name, synced and then renamed: a killed process leaves the old or the new one.
    TensorBoard's, which only grow, are written anew from the state when a run is resumed.

    Args:
        path: the folder; it need not exist.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.settings_file = self.path / "run.json"
        self.model_file = self.path / "model.keras"
        self.state_file = self.path / "state.npz"
        self.history_file = self.path / "history.csv"
        self.curves_file = self.path / "curves.png"
        self.tensorboard_folder = self.path / "tensorboard"

    def begin(self, settings: Mapping[str, Any], *, resume: bool, overwrite: bool) -> None:
        """Writes the settings of a new run, or checks that they are those of the run to resume.

        Raises:
            InputValueError: the folder holds something else, or a run that began with other settings.
        """
        if resume and overwrite:
            raise InputValueError("`resume` and `overwrite` must not both be given. Received: both. Choose one.")
        # Through JSON: what is read back has lists for tuples.
        wanted = json.loads(json.dumps({"format": FORMAT, **settings}))
        if self.settings_file.exists():
            if resume:
                self._check_same(wanted)
                return
            if not overwrite:
                raise InputValueError(
                    f"The run folder must be new. Received: {str(self.path)!r}, which holds a run. Continue it with "
                    "`resume` (--resume), replace it with `overwrite` (--overwrite), or name another folder."
                )
            self._clear()
        elif self.path.exists() and (not self.path.is_dir() or any(map(_is_foreign, self.path.iterdir()))):
            raise InputValueError(
                f"The run folder must be new, empty, or hold a run. Received: {str(self.path)!r}, which holds other "
                "things. Name another folder."
            )
        self.path.mkdir(parents=True, exist_ok=True)
        text = json.dumps(wanted, indent=2, ensure_ascii=False) + "\n"
        write_file(self.settings_file, lambda path: path.write_text(text, encoding="utf-8"))

    def settings(self) -> dict[str, Any]:
        """What `run.json` holds.

        Raises:
            ResourceNotFoundError: this is no run folder.
            CheckpointError: the file is damaged.
            UnsupportedError: it was made by a later version.
        """
        try:
            settings = json.loads(self.settings_file.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError) as error:
            raise ResourceNotFoundError(
                f"The run folder must hold a run.json. Received: {str(self.path)!r}. Make it with `elmo-bridge train`."
            ) from error
        except ValueError as error:
            raise CheckpointError(
                f"{self.settings_file} must be JSON. Received: a damaged file ({error}). Train into another folder, or "
                "delete this one."
            ) from error
        if settings.get("format") != FORMAT:
            raise UnsupportedError(
                f"{self.settings_file} must be of format {FORMAT}. Received: {settings.get('format')!r}. Use the "
                "version of elmo-keras-bridge that made it."
            )
        return settings

    def _check_same(self, wanted: dict[str, Any]) -> None:
        flat_began, flat_wanted = _flat(self.settings()), _flat(wanted)
        differences = [
            f"`{name}` was {flat_began.get(name)!r:.80} and is {flat_wanted.get(name)!r:.80}"
            for name in dict.fromkeys([*flat_began, *flat_wanted])
            if flat_began.get(name) != flat_wanted.get(name)
        ]
        if differences:
            raise InputValueError(
                "A run must be resumed with the data and arguments that it began with. Received: "
                f"{'; '.join(differences)}. Give the same again, or train into another folder."
            )

    def _clear(self) -> None:
        # The state goes first, as there must be no state without its model; the settings last: without them a killed
        # process would leave a folder that is nobody's.
        self.state_file.unlink(missing_ok=True)
        shutil.rmtree(self.tensorboard_folder, ignore_errors=True)
        for file in (self.model_file, self.history_file, self.curves_file, self.settings_file):
            file.unlink(missing_ok=True)


def _is_foreign(path: Path) -> bool:
    return Path(path.stem).suffix != PARTIAL


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        flat.update(_flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value})
    return flat
