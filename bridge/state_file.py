"""Everything that a training goes on from, as one file of arrays and JSON. Nothing in it is pickled."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bridge.errors import CheckpointError
from bridge.whole_file import write_file


def write_state_file(path: Path, arrays: Mapping[str, np.ndarray], progress: Mapping[str, Any]) -> None:
    """Writes arrays and `progress`. One file, so that a killed process cannot leave parts of two moments.

    Args:
        path: the file, `.npz`, which is there as a whole or not at all.
        arrays: by their names, none of which is `"header"`; of NumPy's own dtypes.
        progress: anything that is JSON.
    """
    header = json.dumps({"shapes": _shapes(arrays), "progress": progress}).encode()
    content: dict[str, Any] = {"header": np.frombuffer(header, dtype=np.uint8), **arrays}

    def write(partial: Path) -> None:
        with open(partial, "wb") as file:
            np.savez(file, **content)

    write_file(path, write)


def read_state_file(
    path: Path, shapes: Mapping[str, tuple[int, ...]], put: Callable[[str, np.ndarray], None]
) -> dict[str, Any]:
    """Reads a state, an array at a time, and returns its `progress`.

    Args:
        path: the file.
        shapes: of all arrays, by their names.
        put: takes a name and its array.

    Raises:
        CheckpointError: the file holds the state of another model, or is damaged.
    """
    wanted = {name: list(shape) for name, shape in shapes.items()}
    try:
        if not zipfile.is_zipfile(path):  # NumPy would leave it open
            raise ValueError("it is cut off")
        with np.load(path, allow_pickle=False) as saved:
            header = json.loads(saved["header"].tobytes())
            found, progress = header["shapes"], header["progress"]
            if not isinstance(found, dict):
                raise ValueError("its arrays have no names")
            is_alike = found == wanted
            if is_alike:
                for name in shapes:
                    put(name, saved[name])
    except (EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise CheckpointError(
            f"{path} must be the state that a run has saved. Received: a damaged file ({error}). Train into another "
            "folder, or replace the run with `overwrite` (--overwrite)."
        ) from error
    if not is_alike:
        raise CheckpointError(
            f"{path} must hold the state of this model. Received: arrays of the shapes {_without(found, wanted)}, "
            f"where the model has {_without(wanted, found)}. Build the model as the run began, or train into another "
            "folder."
        )
    return progress


def _shapes(arrays: Mapping[str, np.ndarray]) -> dict[str, list[int]]:
    return {name: list(array.shape) for name, array in arrays.items()}


def _without(shapes: Mapping[str, list[int]], others: Mapping[str, list[int]]) -> dict[str, list[int]]:
    return {name: shape for name, shape in shapes.items() if others.get(name) != shape}
