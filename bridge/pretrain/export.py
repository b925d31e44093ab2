"""Writes `options.json` and `weights.hdf5` as published models have them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import h5py
import numpy as np

from bridge.errors import InputValueError
from bridge.resources.checkpoint import expected_datasets
from bridge.resources.config import ElmoConfig
from bridge.resources.options import ElmoOptions


def write_checkpoint(folder: Path, options: ElmoOptions, weights: Mapping[str, np.ndarray]) -> ElmoConfig:
    """Writes both files into `folder`. The same arguments give the same bytes.

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
    received = {name: np.shape(values) for name, values in weights.items()}
    if received != expected:
        wrong = sorted(name for name in expected.keys() | received if expected.get(name) != received.get(name))
        raise InputValueError(
            f"`weights` must have the datasets that `options` describe. Received other shapes for: {', '.join(wrong)}."
        )
    folder.mkdir(parents=True, exist_ok=True)
    options_file, weight_file = folder / "options.json", folder / "weights.hdf5"
    options_file.write_text(options.model_dump_json(indent=2) + "\n", encoding="utf-8")
    with h5py.File(weight_file, "w", libver="earliest", track_order=False) as file:
        for name, values in weights.items():
            file.create_dataset(name, data=values, track_times=False)
    return ElmoConfig(str(options_file), str(weight_file))
