"""Which ELMo weights a saved layer is given when it is loaded."""

from __future__ import annotations

import json
import math
import os
import shutil
import tempfile
import weakref
from dataclasses import fields
from pathlib import Path
from typing import Any

import h5py

from bridge.errors import BridgeError, CheckpointError, ConfigError, ResourceNotFoundError
from bridge.resources.checkpoint import Checkpoint, expected_datasets
from bridge.resources.config import ElmoConfig
from bridge.resources.options import ElmoOptions, parse_options

OPTIONS_FILE, WEIGHT_FILE = "options.json", "weights.hdf5"
# Copies of what came out of saved files, while a layer uses them: its clones find them here.
_copies: weakref.WeakValueDictionary[str, Checkpoint] = weakref.WeakValueDictionary()
# Ten times the original model. Where weights are not there yet, only what the saved model says limits their size.
MAX_HOLLOW_BYTES = 4 << 30
VARIABLES = ("ELMO_CONFIG", "ELMO_OPTIONS_FILE", "ELMO_WEIGHT_FILE")


def config_of(saved: Any) -> Any:
    """What a saved layer was made with.

    Raises:
        ConfigError: no layer saves such a thing.
    """
    if not isinstance(saved, dict):
        return saved
    names = {item.name for item in fields(ElmoConfig) if item.compare}
    if not saved.keys() <= names or not {"options_file", "weight_file"} <= saved.keys():
        raise ConfigError(
            f"A saved `config` must have options_file and weight_file, and may have the checksums. Received: {saved}. "
            "Save the model again."
        )
    return ElmoConfig(**saved)


def saved_checkpoint(
    config: Any, fingerprint: str | None, options: dict[str, Any] | None
) -> tuple[Checkpoint, BridgeError | None]:
    """The weights of a saved layer; or hollow ones, and why no others are there, if the saved file has them itself.

    Args:
        config: where they were.
        fingerprint: theirs; None in a file that was not saved by a layer, from which nothing is downloaded either.
        options: theirs, if the file has the weights.

    Raises:
        ResourceNotFoundError, CheckpointError: see `find_checkpoint`.
    """
    if fingerprint is None:
        return Checkpoint.open(config, download=False), None
    if not isinstance(fingerprint, str):
        raise CheckpointError(
            f"The `fingerprint` of a saved model must be a string. Received: {fingerprint!r:.80}. Save the model again."
        )
    try:
        return find_checkpoint(config, fingerprint), None
    except (ResourceNotFoundError, CheckpointError) as error:
        if options is None:
            raise
        return hollow_checkpoint(parse_options(json.dumps(options).encode(), "a saved model")), error


def find_checkpoint(config: Any, fingerprint: str) -> Checkpoint:
    """The weights with that fingerprint: where `config` says, else where the environment says. Never downloads.

    Raises:
        ResourceNotFoundError: nothing was found.
        CheckpointError: only other weights were found, or broken ones.
    """
    copy = _copies.get(fingerprint)
    if copy is not None:
        return copy
    sources = {f"config={config} of the saved model": config}
    if config is not None and any(os.environ.get(name) for name in VARIABLES):
        sources["the environment"] = None
    problems: dict[str, BridgeError] = {}
    for source, value in sources.items():
        try:
            checkpoint = Checkpoint.open(value, download=False)
            if checkpoint.fingerprint == fingerprint:
                return checkpoint
            problems[source] = CheckpointError(
                f"{checkpoint.config} are other weights, of fingerprint {checkpoint.fingerprint}."
            )
        except (CheckpointError, ConfigError, ResourceNotFoundError) as error:
            problems[source] = error
    # Wrong weights are the more surprising find: they decide the kind of error.
    wrong = any(isinstance(error, CheckpointError) for error in problems.values())
    listed = "\n".join(f"  - {source}: {error}" for source, error in problems.items())
    raise (CheckpointError if wrong else ResourceNotFoundError)(
        f"A saved model must be loaded with the ELMo weights that it was trained on, of fingerprint {fingerprint}. "
        f"Received:\n{listed}\n"
        "Put the original files back, or set ELMO_OPTIONS_FILE and ELMO_WEIGHT_FILE (or ELMO_CONFIG) to where they "
        "are. A relative path is relative to the working directory. Loading never downloads: fetch a published model "
        'with `Checkpoint.open("NAME")` first.'
    )


def hollow_checkpoint(options: ElmoOptions) -> Checkpoint:
    """A checkpoint of these sizes with zeros for weights, for a layer whose own will come out of its saved file.

    Raises:
        CheckpointError: the sizes are larger than any model's.
    """
    shapes = expected_datasets(options)
    claimed = 4 * sum(math.prod(shape) for shape in shapes.values())
    if claimed > MAX_HOLLOW_BYTES:
        raise CheckpointError(
            f"The options inside a saved model must be those of an ELMo biLM. Received: sizes of {claimed} bytes of "
            f"weights, more than {MAX_HOLLOW_BYTES}. Load it only if you know where it comes from: put its original "
            "weight files back first."
        )
    folder = _temporary_folder()
    (folder / OPTIONS_FILE).write_text(options.model_dump_json(), encoding="utf-8")
    with h5py.File(folder / WEIGHT_FILE, "w") as file:
        for name, shape in shapes.items():
            file.create_dataset(name, shape, "float32")  # nothing is written: HDF5 reads it as zeros
    # Not opened: a checkpoint whose weights are not in its file is refused.
    config = ElmoConfig(str(folder / OPTIONS_FILE), str(folder / WEIGHT_FILE))
    return _kept(Checkpoint(config, folder / OPTIONS_FILE, folder / WEIGHT_FILE, options), folder)


def keep_copy(folder: Path) -> Checkpoint:
    """A checkpoint of the two files in a folder that is about to go: copies that last as long as the checkpoint.

    Raises:
        CheckpointError: they are damaged or not there.
    """
    copies = _temporary_folder()
    try:
        for name in (OPTIONS_FILE, WEIGHT_FILE):
            shutil.copyfile(folder / name, copies / name)
        checkpoint = _kept(open_folder(copies), copies)
    except (FileNotFoundError, CheckpointError) as error:
        shutil.rmtree(copies)
        raise CheckpointError(
            f"The weights inside a saved model must be sound. Received: {error}\nThe file is damaged: save the model "
            "again."
        ) from error
    _copies[checkpoint.fingerprint] = checkpoint
    return checkpoint


def open_folder(folder: Path) -> Checkpoint:
    """The checkpoint of the two files in `folder`."""
    return Checkpoint.open(ElmoConfig(str(folder / OPTIONS_FILE), str(folder / WEIGHT_FILE)))


def _temporary_folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="elmo-keras-bridge-"))


def _kept(checkpoint: Checkpoint, folder: Path) -> Checkpoint:
    """That checkpoint; its folder goes with it."""
    weakref.finalize(checkpoint, _remove, folder, os.getpid())
    return checkpoint


def _remove(folder: Path, owner: int) -> None:
    if os.getpid() == owner:  # and not a child that was forked from it
        shutil.rmtree(folder, ignore_errors=True)
