"""The folder of a training run, whatever is trained: what it was begun with, and what belongs to it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from bridge.errors import CheckpointError, InputValueError, ResourceNotFoundError, UnsupportedError
from bridge.whole_file import PARTIAL, write_file


class RunFolder:
    """The folder of a training run. Its files are written as a whole or not at all, see `write_file`.

    Subclasses name their files.

    Args:
        path: the folder; it need not exist.
        files: what else an `overwrite` deletes.

    Attributes:
        FORMAT: of the folder.
        MADE_BY: the command that makes such folders.
        settings_file: `run.json`.
        state_file: `state.npz`, everything that a resumed run starts from.
        history_file: `history.csv`.
        tensorboard_folder: `tensorboard`, made anew from the state when a run is resumed.
    """

    FORMAT: ClassVar[int]
    MADE_BY: ClassVar[str]

    def __init__(self, path: str | os.PathLike[str], files: Sequence[str]) -> None:
        self.path = Path(path)
        self.settings_file = self.path / "run.json"
        self.state_file = self.path / "state.npz"
        self.history_file = self.path / "history.csv"
        self.tensorboard_folder = self.path / "tensorboard"
        self._files = [self.path / name for name in files]

    def begin(
        self, settings: Mapping[str, Any], *, resume: bool, overwrite: bool, notes: Mapping[str, Any] | None = None
    ) -> None:
        """Writes the settings of a new run, or checks that they are those of the run to resume.

        Args:
            settings: what a resumed run must begin with again. JSON.
            resume, overwrite: what to do with a run that is there.
            notes: more to write down, which is not compared. JSON.

        Raises:
            InputValueError: the folder holds something else, or a run that began with other settings.
        """
        if self.check(resume=resume, overwrite=overwrite):
            if resume:
                self._check_same(_as_json(settings))
                return
            self._clear()
        self.path.mkdir(parents=True, exist_ok=True)
        head = {"format": self.FORMAT, "made_by": self.MADE_BY}
        text = json.dumps({**head, **settings, **(notes or {})}, indent=2, ensure_ascii=False) + "\n"
        write_file(self.settings_file, lambda path: path.write_text(text, encoding="utf-8"))

    def check(self, *, resume: bool, overwrite: bool) -> bool:
        """Whether there is a run, which is to be resumed or replaced. Changes nothing.

        Raises:
            InputValueError: the folder holds something else; or a run, and neither is wanted, or both are.
        """
        if resume and overwrite:
            raise InputValueError("`resume` and `overwrite` must not both be given. Received: both. Choose one.")
        if self.settings_file.exists():
            if not resume and not overwrite:
                raise InputValueError(
                    f"The run folder must be new. Received: {str(self.path)!r}, which holds a run. Continue it with "
                    "`resume` (--resume), replace it with `overwrite` (--overwrite), or name another folder."
                )
            try:
                settings = json.loads(self.settings_file.read_text(encoding="utf-8"))
            except ValueError:  # damaged: may be replaced, and to resume it is an error
                return True
            made_by = settings.get("made_by") if isinstance(settings, dict) else None
            if made_by is None:
                raise self._not_ours()
            if made_by != self.MADE_BY:
                raise InputValueError(
                    f"The run folder must be one of `{self.MADE_BY}`. Received: {str(self.path)!r}, which "
                    f"`{made_by}` made. Name another folder."
                )
            return True
        if self.path.exists() and (not self.path.is_dir() or any(map(_is_foreign, self.path.iterdir()))):
            raise self._not_ours()
        return False

    def going_on(self) -> str:
        """How another run can use what this one has learned, for the end of an error: a sentence after a space."""
        return ""

    def _not_ours(self) -> InputValueError:
        what = "holds other things" if self.path.is_dir() else "is a file"
        return InputValueError(
            f"The run folder must be new, empty, or hold a run. Received: {str(self.path)!r}, which {what}. Name "
            "another folder."
        )

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
                f"The run folder must hold a run.json. Received: {str(self.path)!r}. Make it with `{self.MADE_BY}`."
            ) from error
        except ValueError as error:
            raise CheckpointError(
                f"{self.settings_file} must be JSON. Received: a damaged file ({error}). Train into another folder, or "
                "delete this one."
            ) from error
        if settings.get("format") != self.FORMAT:
            raise UnsupportedError(
                f"{self.settings_file} must be of format {self.FORMAT}. Received: {settings.get('format')!r}. Use the "
                "version of elmo-keras-bridge that made it."
            )
        return settings

    def _check_same(self, wanted: dict[str, Any]) -> None:
        began = self.settings()
        # What was noted beside the settings is in other sections.
        flat_began, flat_wanted = _flat({name: began.get(name) for name in wanted}), _flat(wanted)
        differences = [
            f"`{name.removeprefix('arguments.')}` was {flat_began.get(name)!r:.80} and is {flat_wanted.get(name)!r:.80}"
            for name in dict.fromkeys([*flat_began, *flat_wanted])
            if flat_began.get(name) != flat_wanted.get(name)
        ]
        if differences:
            raise InputValueError(
                "A run must be resumed with the data and arguments that it began with. Received: "
                f"{'; '.join(differences)}. Give the same again, or train into another folder.{self.going_on()}"
            )

    def _clear(self) -> None:
        # The state goes first, as there must be no state without its model; the settings last: without them a killed
        # process would leave a folder that is nobody's.
        self.state_file.unlink(missing_ok=True)
        shutil.rmtree(self.tensorboard_folder, ignore_errors=True)
        for file in (*self._files, self.history_file, self.settings_file):
            file.unlink(missing_ok=True)


def _is_foreign(path: Path) -> bool:
    return Path(path.stem).suffix != PARTIAL


def _as_json(settings: Mapping[str, Any]) -> dict[str, Any]:
    """As it is read back, with lists for tuples."""
    return json.loads(json.dumps(settings))


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        flat.update(_flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value})
    return flat
