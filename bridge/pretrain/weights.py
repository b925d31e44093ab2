"""Initial weights of a biLM, in the published file layout."""

from __future__ import annotations

import numpy as np

from bridge.resources.checkpoint import expected_datasets
from bridge.resources.options import ElmoOptions


def initial_weights(options: ElmoOptions, seed: int, scale: float = 1.0) -> dict[str, np.ndarray]:
    """Random weights that keep signals at about unit variance from layer to layer.

    Args:
        options: the sizes.
        seed: the same seed gives the same weights.
        scale: multiplies the weights of the LSTMs; 1.0 is ordinary.

    Returns:
        float32 arrays by their path in `weights.hdf5`: normal with variance 1 / fan-in, the character embedding
        with variance 1, biases zero except that the highway layers begin by carrying their input.
    """
    generator = np.random.default_rng(seed)
    weights = {}
    for name, shape in expected_datasets(options).items():
        part = name.rpartition("/")[2]
        if part == "char_embed":
            values = generator.standard_normal(shape)
        elif part in ("B", "b_proj", "b_carry", "b_transform") or part.startswith("b_cnn"):
            values = np.full(shape, -2.0 if part == "b_carry" else 0.0)
        else:
            fan_in = int(np.prod(shape[:-1]))
            values = generator.standard_normal(shape) * (scale if name.startswith("RNN") else 1.0) / fan_in**0.5
        weights[name] = values.astype(np.float32)
    return weights
