"""A biLM out of PyTorch, and into `options.json` and `weights.hdf5` as published models have them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np

from bridge.errors import InputValueError
from bridge.resources.checkpoint import expected_datasets
from bridge.resources.config import ElmoConfig
from bridge.resources.options import ElmoOptions
from bridge.resources.weight_file import is_loadable
from bridge.whole_file import write_file

if TYPE_CHECKING:  # writing needs no PyTorch
    import torch


def bilm_weights(bilm: torch.nn.Module) -> dict[str, np.ndarray]:
    """The weights of AllenNLP's `_ElmoBiLm`, as `weights.hdf5` has them: the inverse of AllenNLP's loading.

    Args:
        bilm: an `_ElmoBiLm`, such as `ElmoEncoder(...).module._elmo_lstm`.

    Returns:
        float32 arrays by their path in the file.
    """
    state = {name: values.detach().cpu().numpy() for name, values in bilm.state_dict().items()}
    weights = {}
    for name, values in state.items():
        module, _, parameter = name.partition(".")
        parts = parameter.split(".")
        if parts[0] == "_char_embedding_weights":
            weights["char_embed"] = values[1:]  # row 0 is "no token": zeros that the file leaves out
        elif parts[0].startswith("char_conv_"):
            index = parts[0].rpartition("_")[2]
            if parts[1] == "weight":
                weights[f"CNN/W_cnn_{index}"] = values.transpose(2, 1, 0)[np.newaxis]
            else:
                weights[f"CNN/b_cnn_{index}"] = values
        elif parts[0] == "_highways":
            # One matrix holds both gates; AllenNLP's carry gate is the negative of the file's.
            transform, carry = np.split(values.T if parts[-1] == "weight" else values, 2, axis=-1)
            letter = "W" if parts[-1] == "weight" else "b"
            weights[f"CNN_high_{parts[2]}/{letter}_transform"] = transform
            weights[f"CNN_high_{parts[2]}/{letter}_carry"] = -carry
        elif parts[0] == "_projection":
            weights[f"CNN_proj/{'W' if parts[1] == 'weight' else 'b'}_proj"] = values.T
        elif module == "_elmo_lstm":
            direction, _, layer = parts[0].split("_")
            cell = f"RNN_{int(direction == 'backward')}/RNN/MultiRNNCell/Cell{layer}/LSTMCell"
            if parts[1] == "input_linearity":
                recurrent = state[name.replace("input_linearity", "state_linearity")]
                weights[f"{cell}/W_0"] = _file_gates(np.concatenate([values, recurrent], axis=1)).T
            elif parts[1:] == ["state_linearity", "bias"]:
                weights[f"{cell}/B"] = _file_gates(values, forget_bias=1.0)
            elif parts[1] == "state_projection":
                weights[f"{cell}/W_P_0"] = values.T
    return {name: np.ascontiguousarray(values, dtype=np.float32) for name, values in weights.items()}


def _file_gates(values: np.ndarray, forget_bias: float = 0.0) -> np.ndarray:
    """Rows of the gates i, f, j, o (AllenNLP) in the order i, j, f, o (the file)."""
    i, f, j, o = np.split(values, 4)
    return np.concatenate([i, j, f - np.float32(forget_bias), o])


def write_checkpoint(folder: Path, options: ElmoOptions, weights: Mapping[str, np.ndarray]) -> ElmoConfig:
    """Writes both files into `folder`, each as a whole or not at all. The same arguments give the same bytes.

    Args:
        folder: made if it is not there; files of these names in it are replaced.
        options: the sizes.
        weights: one float array for each dataset of `expected_datasets(options)`, of that shape.

    Returns:
        The config of the two files.

    Raises:
        InputValueError: `weights` are not those that `options` describe.
    """
    expected = expected_datasets(options)
    wrong = [f"{name}: unknown" for name in weights if name not in expected]
    for name, shape in expected.items():
        values = np.asarray(weights[name]) if name in weights else None
        if values is None or values.shape != shape or not is_loadable(values.dtype):
            received = "missing" if values is None else f"{values.dtype} {values.shape}"
            wrong.append(f"{name}: {received}, must be a float array of shape {shape}")
    if wrong:
        raise InputValueError(f"`weights` must be the datasets that `options` describe. Received: {'; '.join(wrong)}.")
    folder.mkdir(parents=True, exist_ok=True)
    options_file, weight_file = folder / "options.json", folder / "weights.hdf5"
    text = options.model_dump_json(indent=2) + "\n"

    def write(path: Path) -> None:
        # In memory first: a disk that is full leaves HDF5 with a file that it can neither write nor close.
        with h5py.File(
            path, "w", driver="core", backing_store=False, block_size=1 << 20, libver="earliest", track_order=False
        ) as file:
            for name in expected:  # in the order of `weights` the bytes would depend on it
                file.create_dataset(name, data=weights[name], track_times=False)
            file.flush()
            path.write_bytes(file.id.get_file_image())

    write_file(weight_file, write)
    write_file(options_file, lambda path: path.write_text(text, encoding="utf-8"))
    return ElmoConfig(str(options_file), str(weight_file))
