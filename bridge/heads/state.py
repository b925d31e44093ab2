"""Everything that the next epoch of a training starts from, as one file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np

from bridge.state_file import read_state_file, write_state_file


def save_state(path: Path, model: keras.Model, progress: dict[str, Any]) -> None:
    """Writes the model's and the optimizer's variables, the states of random layers among them, and `progress`.

    Args:
        path: the file, `.npz`.
        model: a compiled model.
        progress: anything that is JSON.
    """
    write_state_file(path, {name: _as_numpy(variable) for name, variable in _variables(model).items()}, progress)


def load_state(path: Path, model: keras.Model) -> dict[str, Any]:
    """Puts a saved state into a model that was built and compiled alike, and returns its `progress`.

    Raises:
        CheckpointError: the file holds the state of another model, or is damaged.
    """
    variables = _variables(model)
    shapes = {name: tuple(variable.shape) for name, variable in variables.items()}
    return read_state_file(path, shapes, lambda name, values: variables[name].assign(values))


def _variables(model: keras.Model) -> dict[str, Any]:
    if not model.optimizer.built:  # Keras would do it at the first step
        model.optimizer.build(model.trainable_variables)
    variables = [*model.variables, *model.optimizer.variables]
    return {f"variable_{number}": variable for number, variable in enumerate(variables)}


def _as_numpy(variable: Any) -> np.ndarray:
    # A file of NumPy's own dtypes: it would forget what bfloat16 was.
    array = keras.ops.convert_to_numpy(variable)
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array
