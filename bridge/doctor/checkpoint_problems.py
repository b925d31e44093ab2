"""Everything that is wrong with the two files of a checkpoint: `look_at`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import h5py

from bridge.errors import BridgeError, CheckpointError, ResourceNotFoundError
from bridge.resources.checkpoint import Checkpoint, expected_datasets
from bridge.resources.config import REMOTE, ElmoConfig
from bridge.resources.fetch import fetch
from bridge.resources.options import ElmoOptions, read_options
from bridge.resources.weight_file import check_weight_file, read_weights


class Look(NamedTuple):
    """What is there.

    Attributes:
        options_file, weight_file: the local files; None where there is none.
        options: None where they can't be read.
        checkpoint: None unless `Checkpoint.open` accepts both files.
        problems: messages, of both files and of the numbers in the weights.
    """

    options_file: Path | None
    weight_file: Path | None
    options: ElmoOptions | None
    checkpoint: Checkpoint | None
    problems: list[str]


def look_at(config: ElmoConfig, download: bool) -> Look:
    """Looks at both files to the end. `Checkpoint.open` stops where one is missing, and reads no numbers.

    Args:
        config: names them.
        download: whether files at a URL may be downloaded. Otherwise they must be in the cache already.
    """
    problems: list[str] = []
    options_file = _local(config.options_file, config.options_origin, download, problems)
    weight_file = _local(config.weight_file, config.weight_origin, download, problems)
    checkpoint = None
    if options_file and weight_file:
        try:
            checkpoint = Checkpoint.open(config, download=download)
        except BridgeError as error:  # a file's message may have several lines
            problems += re.split(r"\n(?=`\w+` must )", str(error))
    options = checkpoint.options if checkpoint else _readable_options(options_file)
    if checkpoint:
        problems += _faulty_numbers(checkpoint)
    else:
        problems += _untold(config, options_file, weight_file, options, problems)
    return Look(options_file, weight_file, options, checkpoint, problems)


def _local(path: str, origin: str, download: bool, problems: list[str]) -> Path | None:
    """The local file; if there is none, that is a problem."""
    try:
        return fetch(path, origin, download)
    except ResourceNotFoundError as error:
        hint = " `--download` does it." if REMOTE.match(path) and not download else ""
        problems.append(f"{error}{hint}")
        return None


def _readable_options(path: Path | None) -> ElmoOptions | None:
    try:
        return None if path is None else read_options(path, str(path))
    except (BridgeError, OSError):  # is a problem already, or will be
        return None


def _untold(
    config: ElmoConfig,
    options_file: Path | None,
    weight_file: Path | None,
    options: ElmoOptions | None,
    told: list[str],
) -> Iterator[str]:
    """What `Checkpoint.open` did not come to: a file that is alone, or the contents of one with a wrong checksum."""
    checks: list[tuple[str, Callable[[], object]]] = []
    if options_file:
        described = f"{config.options_file} (from {config.options_origin})"
        checks.append(("options_file", partial(read_options, options_file, described)))
    if weight_file:
        described = f"{config.weight_file} (from {config.weight_origin})"
        expected = expected_datasets(options) if options else None
        checks.append(("weight_file", partial(check_weight_file, weight_file, expected, described)))
    for argument, check in checks:
        if any(problem.startswith(f"`{argument}` must ") for problem in told):
            continue
        try:
            check()
        except BridgeError as error:
            yield str(error)
        except OSError as error:
            if len(checks) == 1:  # of two files, `Checkpoint.open` has told it
                yield str(error)


def _faulty_numbers(checkpoint: Checkpoint) -> Iterator[str]:
    """NaN, infinity and damage: a message for each dataset."""
    with h5py.File(checkpoint.weight_file, "r") as file:
        for name in expected_datasets(checkpoint.options):
            try:
                read_weights(file, name)
            except CheckpointError as error:
                yield str(error)
