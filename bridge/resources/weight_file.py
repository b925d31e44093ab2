"""`weights.hdf5`: whether it is what the options describe, and its numbers."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from h5py import h5d, h5g, h5o

from bridge.errors import CheckpointError
from bridge.resources.lookalikes import lookalike
from bridge.untrusted_hdf5 import Chunks, link_fault, location_fault, storage_fault

# Numbered parts of a biLM: AllenNLP ignores those beyond what the options say, and computes something else.
NUMBERED_PARTS = {
    "": re.compile(r"CNN_high_\d+"),
    "CNN/": re.compile(r"[Wb]_cnn_\d+"),
    "RNN_0/RNN/MultiRNNCell/": re.compile(r"Cell\d+"),
    "RNN_1/RNN/MultiRNNCell/": re.compile(r"Cell\d+"),
}
MAX_LISTED = 30
# Trained weights hardly compress, and at most become float32 from float16: what claims to be more is no model.
MAX_GROWTH = 20
SMALL_BYTES = 64 << 20


def is_loadable(dtype: np.dtype) -> bool:
    """Whether PyTorch can take over an array of this dtype as float32."""
    return dtype.kind == "f" and dtype.isnative and dtype.itemsize <= 8


def check_weight_file(path: Path, expected: Mapping[str, tuple[int, ...]] | None, described: str) -> None:
    """Checks everything of a weight file but its numbers. Only where they are compressed they are read.

    Args:
        path: a local file.
        expected: shape of every dataset, see `expected_datasets`; None where the options are not known.
        described: how error messages call the file: its path and where that path came from.

    Raises:
        CheckpointError: it is no HDF5 file; or datasets are missing, wrong, unexpected, or not as a whole in this
            file. The message lists all of them.
        PermissionError, BlockingIOError: it can't be read, or another program writes it.
    """
    try:
        with h5py.File(path, "r") as file:
            problems = list(_problems(file, expected)) if expected is not None else []
    except (PermissionError, BlockingIOError):  # the latter: another program writes it
        raise
    except Exception as error:  # for damage h5py raises OSError, RuntimeError, TypeError, UnicodeDecodeError ...
        raise CheckpointError(
            f"`weight_file` must be an HDF5 file. Received: {described}, which looks like {lookalike(path)} ({error})"
        ) from error
    if problems:
        listed = "\n".join(f"  - {problem}" for problem in problems[:MAX_LISTED])
        more = f"\n  - and {len(problems) - MAX_LISTED} more" if len(problems) > MAX_LISTED else ""
        raise CheckpointError(
            f"`weight_file` must hold the weights that `options_file` describes. Received: {described}, in "
            f"which:\n{listed}{more}\nUse the options file and the weight file of the same model."
        )


def read_weights(source: Mapping[str, Any], name: str, rows: Any = ...) -> np.ndarray:
    """Reads a dataset, or rows of it, as float32.

    Args:
        source: the datasets by their path: an open file that `check_weight_file` found sound, or arrays.
        name: of the dataset.
        rows: what to read of it.

    Raises:
        CheckpointError: it is damaged, or there are numbers in it that are NaN, infinite or beyond float32.
    """
    with np.errstate(all="ignore"):
        values = _read(source, name, rows)
        # The sum, as it is the fastest that a NaN or an infinity does not survive. Large numbers may overflow in it.
        if np.isfinite(values.sum()) or np.isfinite(values).all():
            return values
        whole = _read(source, name, ...)
    wrong = ~np.isfinite(whole)
    raise CheckpointError(
        f"`weight_file` must hold finite numbers. Received: {_path(source)}, in which {name} has "
        f"{np.count_nonzero(wrong)} of {whole.size} that are NaN, infinite or beyond float32, the first at "
        f"{np.argwhere(wrong)[0].tolist()}. The file is damaged, or the training that wrote it diverged: use "
        "another copy, or an earlier checkpoint."
    )


def check_numbers(path: Path, expected: Mapping[str, tuple[int, ...]]) -> None:
    """Reads every dataset of a weight file.

    Raises:
        CheckpointError: see `read_weights`.
    """
    with h5py.File(path, "r") as file:
        for name in expected:
            read_weights(file, name)


def _read(source: Mapping[str, Any], name: str, rows: Any) -> np.ndarray:
    try:
        return source[name][rows].astype(np.float32, copy=False)
    except OSError as error:  # a checksum or a compression that does not fit
        raise CheckpointError(
            f"`weight_file` must be whole, as it was written. Received: {_path(source)}, in which {name} can't be read "
            f"({error}). The file is damaged: fetch the file again, or use another copy."
        ) from error


def _path(source: Mapping[str, Any]) -> str:
    return repr(source.filename) if isinstance(source, h5py.File) else "weights in memory"


def _problems(file: h5py.File, expected: Mapping[str, tuple[int, ...]]) -> Iterator[str]:
    file_size = os.path.getsize(file.filename)
    claimed = stored = 0
    for name, shape in expected.items():
        found = _find(file, name)
        if isinstance(found, str):
            yield f"{name}: {found}, must be a float dataset of shape {shape}"
            continue
        dtype = _dtype(found)
        if h5py.Dataset(found).shape != shape:
            yield f"{name}: has shape {h5py.Dataset(found).shape}, must be {shape}"
        elif dtype is None or not is_loadable(dtype):
            received = "unknown" if dtype is None or dtype.names else dtype  # records can be nested without end
            yield f"{name}: has dtype {received}, must be float16, float32 or float64 in native byte order"
        elif fault := _fault(found, file_size, shape, dtype):
            yield f"{name}: {fault}"
        else:
            claimed += math.prod(shape) * np.dtype(np.float32).itemsize
            stored += found.get_storage_size()
    if stored > file_size or claimed > max(SMALL_BYTES, MAX_GROWTH * file_size):
        yield f"all datasets: claim {claimed} bytes as float32, stored in {stored}, in a file of {file_size}"

    for folder, pattern in NUMBERED_PARTS.items():
        group = _find(file, folder)
        known = {name.removeprefix(folder).split("/")[0] for name in expected if name.startswith(folder)}
        names = [name.decode("utf-8", "replace") for name in group] if isinstance(group, h5g.GroupID) else []
        for part in sorted(name for name in names if pattern.fullmatch(name) and name not in known):
            yield f"{folder}{part}: is there, and the options do not mention it"


def _find(file: h5py.File, name: str) -> Any:
    """The dataset (or, for a name that ends in a slash, the group) of that name in this file; else what is wrong."""
    found = h5g.open(file.id, b"/")
    *folders, last = name.encode().split(b"/")
    for part in [*folders, *([last] if last else [])]:
        if not isinstance(found, h5g.GroupID) or not found.links.exists(part):
            return "missing"
        fault = link_fault(found, part)
        if fault:
            return fault
        found = h5o.open(found, part)
    if isinstance(found, h5d.DatasetID) and last:
        return location_fault(found.get_create_plist()) or found
    if isinstance(found, h5g.GroupID) and not last:
        return found
    return "is a group" if isinstance(found, h5g.GroupID) else "is no dataset"


def _dtype(dataset: h5d.DatasetID) -> np.dtype | None:
    try:
        return dataset.dtype
    except Exception:  # of types that NumPy lacks or that are nested without end: TypeError, RecursionError ...
        return None


def _fault(dataset: h5d.DatasetID, file_size: int, shape: tuple[int, ...], dtype: np.dtype) -> str | None:
    """What is wrong with the data of a dataset of the right form."""
    plist = dataset.get_create_plist()
    return storage_fault(dataset, plist, file_size, shape, dtype) or Chunks(dataset, dtype).fault()
