"""A biLM's weights as the products take them: `PreparedWeights`, and `SharedWeights` for several processes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import h5py
import numpy as np
import torch

from bridge.errors import InputValueError
from bridge.resources.checkpoint import Checkpoint
from bridge.resources.config import ElmoConfig
from bridge.resources.options import CharCnnOptions, ElmoOptions
from bridge.resources.weight_file import read_weights


class PreparedWeights(Mapping[str, np.ndarray]):
    """What the fused biLM multiplies by: arrays of `weights.hdf5`, transposed, put together and scaled.

    Each is made when it is asked for, and not kept. They are contiguous float32, matrices `(out, in)`:

    - `char_embed` `(262, dim)`: with the row of id 0, which the file does not store;
    - `CNN/W` `(n_filters, width * dim)` and `CNN/b`: all filters, those that are narrower than `width` filled up with
      zeros;
    - `CNN_high_k/W` `(2 * n_filters, n_filters)` and `CNN_high_k/b`: the transformation, then the gate;
    - `CNN_proj/W` and `CNN_proj/b`;
    - `RNN_d/Cell_l/input` and `/recurrent` `(4 * dim, projection_dim)`, `/bias` and `/projection`
      `(projection_dim, dim)`: gates in the order input, forget, output, candidate, and the factors of `LstmCell`.

    Args:
        options: the sizes.
        source: the datasets of `weights.hdf5` by their path: an open file, or arrays.

    Raises:
        CheckpointError: an array is asked for that has numbers in it that are NaN or infinite.
    """

    def __init__(self, options: ElmoOptions, source: Mapping[str, Any]) -> None:
        cnn, lstm = options.char_cnn, options.lstm
        self._recipes: dict[str, Callable[[], torch.Tensor]] = {
            "char_embed": partial(_embedding, source),
            "CNN/W": partial(_filters, source, cnn),
            "CNN/b": lambda: torch.cat([_read(source, f"CNN/b_cnn_{i}") for i in range(len(cnn.filters))]),
            "CNN_proj/W": lambda: _read(source, "CNN_proj/W_proj").t(),
            "CNN_proj/b": lambda: _read(source, "CNN_proj/b_proj"),
        }
        for k in range(cnn.n_highway):
            for part in ("W", "b"):
                self._recipes[f"CNN_high_{k}/{part}"] = partial(_highway, source, f"CNN_high_{k}/{part}")
        width = lstm.projection_dim
        for direction in (0, 1):
            for layer in range(lstm.n_layers):
                file = f"RNN_{direction}/RNN/MultiRNNCell/Cell{layer}/LSTMCell"
                cell = f"RNN_{direction}/Cell_{layer}"
                self._recipes |= {
                    f"{cell}/input": partial(_gates, source, f"{file}/W_0", slice(width)),
                    f"{cell}/recurrent": partial(_gates, source, f"{file}/W_0", slice(width, None)),
                    f"{cell}/bias": partial(_gates, source, f"{file}/B", ..., forget_bias=1.0),
                    f"{cell}/projection": partial(_projection, source, f"{file}/W_P_0"),
                }

    def __getitem__(self, name: str) -> np.ndarray:
        return self._recipes[name]().contiguous().numpy()

    def __iter__(self) -> Iterator[str]:
        return iter(self._recipes)

    def __len__(self) -> int:
        return len(self._recipes)


@dataclass(frozen=True, eq=False)
class SharedWeights(Checkpoint):
    """A checkpoint whose weights are in memory already, for encoders of several processes.

    An `ElmoEncoder` made from it opens no file, and multiplies by these very arrays: where they are views of shared
    memory, such as Ray's object store or a `np.memmap`, all encoders of a machine hold one copy. Its products take
    the weights as they are, not in oneDNN's packed layout, which is a copy.

    It is for the fused biLM on a CPU. In half precision an encoder holds its own rounded copy of the LSTMs' weights,
    and on a GPU one of everything.

    Attributes:
        config, options_file, weight_file: where the weights came from, maybe on another machine.
        options: the validated `options.json`.
        fingerprint: see `Checkpoint`.
        arrays: those of `PreparedWeights`, by name. They may be read-only, and must never change.

    Raises:
        InputValueError: `arrays` do not have the names that `options` ask for, or are not contiguous float32.

    Example:
        >>> shared = SharedWeights.of("demo")
        >>> reference = ray.put(shared)  # pickled, it takes arrays along out of band
        >>> ElmoEncoder(ray.get(reference)).output_dim
        128
    """

    fingerprint: str = field()
    arrays: Mapping[str, np.ndarray] = field(repr=False)

    def __post_init__(self) -> None:
        names = set(PreparedWeights(self.options, {}))
        wrong = [f"{name}: {'missing' if name in names else 'unknown'}" for name in sorted(names ^ set(self.arrays))]
        for name, array in self.arrays.items():
            if not (array.dtype == np.float32 and array.flags.c_contiguous and array.flags.aligned):
                wrong.append(f"{name}: {array.dtype} {array.shape} with strides {array.strides}")
        if wrong:
            raise InputValueError(
                "`arrays` must be those of `PreparedWeights` for `options`, float32 and contiguous. "
                f"Received: {'; '.join(wrong)}. Make them by `SharedWeights.of(config)`."
            )

    @classmethod
    def of(cls, config: str | os.PathLike[str] | ElmoConfig | Checkpoint | None = None) -> SharedWeights:
        """Reads the weights.

        Args:
            config: what `ElmoConfig.load` accepts, or an open `Checkpoint`.

        Raises:
            ResourceNotFoundError, CheckpointError: see `Checkpoint.open`.
        """
        source = config if isinstance(config, Checkpoint) else Checkpoint.open(config)
        with prepared(source) as weights:
            arrays = dict(weights)
        return cls(source.config, source.options_file, source.weight_file, source.options, source.fingerprint, arrays)


@contextmanager
def prepared(checkpoint: Checkpoint) -> Iterator[Mapping[str, np.ndarray]]:
    """A checkpoint's `PreparedWeights`: those that are in memory already, or from the file that is open meanwhile."""
    if isinstance(checkpoint, SharedWeights):
        yield checkpoint.arrays
    else:
        with h5py.File(checkpoint.weight_file, "r") as file:
            yield PreparedWeights(checkpoint.options, file)


def _read(source: Mapping[str, Any], name: str, rows: Any = ...) -> torch.Tensor:
    return torch.from_numpy(read_weights(source, name, rows))


def _embedding(source: Mapping[str, Any]) -> torch.Tensor:
    return torch.nn.functional.pad(_read(source, "char_embed"), (0, 0, 1, 0))


def _filters(source: Mapping[str, Any], options: CharCnnOptions) -> torch.Tensor:
    widest = max(width for width, _ in options.filters)
    rows = []
    for i, (width, number) in enumerate(options.filters):
        weight = _read(source, f"CNN/W_cnn_{i}").reshape(-1, number).t()
        rows.append(torch.nn.functional.pad(weight, (0, (widest - width) * options.embedding.dim)))
    return torch.cat(rows)


def _highway(source: Mapping[str, Any], name: str) -> torch.Tensor:
    return torch.cat([_read(source, f"{name}_{gate}").t() for gate in ("transform", "carry")])


def _gates(source: Mapping[str, Any], name: str, rows: Any, forget_bias: float = 0.0) -> torch.Tensor:
    """The file's gates are input, candidate, forget and output; TensorFlow's forget bias is not part of the file."""
    i, j, f, o = _read(source, name, rows).t().chunk(4)
    return torch.cat([i, f + forget_bias if forget_bias else f, o, 2 * j])


def _projection(source: Mapping[str, Any], name: str) -> torch.Tensor:
    return -_read(source, name).t()
