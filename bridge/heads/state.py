"""Everything that the next epoch of a training starts from, as one file."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np

from bridge.errors import CheckpointError
from bridge.whole_file import write_file


def save_state(path: Path, model: keras.Model, progress: dict[str, Any]) -> None:
    """Writes the model's and the optimizer's variables, the states of random layers among them, and `progress`.

    One file, so that a killed process cannot leave parts of two epochs.

    Args:
        path: the file, `.npz`.
        model: a compiled model.
        progress: anything that is JSON.
    """
    variables = _variables(model)
    arrays: dict[str, Any] = {f"variable_{number}": _as_numpy(variable) for number, variable in enumerate(variables)}
    header = json.dumps({"shapes": _shapes(variables), "progress": progress})

    def write(partial: Path) -> None:
        with open(partial, "wb") as file:
            np.savez(file, header=np.frombuffer(header.encode(), dtype=np.uint8), **arrays)

    write_file(path, write)


def load_state(path: Path, model: keras.Model) -> dict[str, Any]:
    """Puts a saved state into a model that was built and compiled alike, and returns its `progress`.

    Raises:
        CheckpointError: the file holds the state of another model, or is damaged.
    """
    variables = _variables(model)
    if not zipfile.is_zipfile(path):
        raise CheckpointError(
            f"{path} must be the state that a run has saved. Received: a damaged file. Train into another folder, or "
            "replace the run with `overwrite` (--overwrite)."
        )
    with np.load(path, allow_pickle=False) as saved:
        header = json.loads(saved["header"].tobytes())
        if header["shapes"] != _shapes(variables):
            raise CheckpointError(
                f"{path} must hold the state of this model. Received: variables of the shapes {header['shapes']}, "
                f"where the model has {_shapes(variables)}. Build the model as the run began, or train into another "
                "folder."
            )
        for number, variable in enumerate(variables):
            variable.assign(saved[f"variable_{number}"])
    return header["progress"]


def _variables(model: keras.Model) -> list[Any]:
    if not model.optimizer.built:  # Keras would do it at the first step
        model.optimizer.build(model.trainable_variables)
    return [*model.variables, *model.optimizer.variables]


def _as_numpy(variable: Any) -> np.ndarray:
    # A file of NumPy's own dtypes: it would forget what bfloat16 was.
    array = keras.ops.convert_to_numpy(variable)
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array


def _shapes(variables: list[Any]) -> list[list[int]]:
    return [list(variable.shape) for variable in variables]
