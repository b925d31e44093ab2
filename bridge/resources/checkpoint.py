"""`options.json` and `weights.hdf5`, checked against each other before any PyTorch work."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from bridge.errors import BridgeError, CheckpointError, ResourceNotFoundError
from bridge.resources.config import REMOTE, ElmoConfig
from bridge.resources.fetch import fetch
from bridge.resources.options import ElmoOptions, read_options
from bridge.resources.weight_file import check_weight_file
from bridge.text.characters import MAX_CHARACTERS_PER_TOKEN


@dataclass(frozen=True)
class Checkpoint:
    """A sound pair of `options.json` and `weights.hdf5`: use `Checkpoint.open`.

    Attributes:
        config: the `ElmoConfig` that named the files.
        options_file, weight_file: the local files.
        options: the validated `options.json`.

    Example:
        >>> checkpoint = Checkpoint.open("demo")
        >>> checkpoint.num_layers
        3
    """

    config: ElmoConfig
    options_file: Path
    weight_file: Path
    options: ElmoOptions

    @classmethod
    def open(cls, config: str | os.PathLike[str] | ElmoConfig | None = None, *, download: bool = True) -> Checkpoint:
        """Finds (or fetches) both files and checks them against each other. Never unpickles anything.

        Args:
            config: what `ElmoConfig.load` accepts.
            download: whether files at a URL may be downloaded. Otherwise they must be in the cache already.

        Raises:
            ResourceNotFoundError: a file is missing or could not be fetched.
            CheckpointError: a checksum, the options, or datasets of the weights are wrong. The message lists
                every problem of both files.
        """
        config = ElmoConfig.load(config)
        files: list[Path] = []
        missing: list[str] = []
        for path, origin in (
            (config.options_file, config.options_origin),
            (config.weight_file, config.weight_origin),
        ):
            try:
                files.append(fetch(path, origin, download))
            except ResourceNotFoundError as error:
                missing.append(str(error))
        if missing:
            raise ResourceNotFoundError("\n".join(missing))
        options_file, weight_file = files

        problems: list[str] = []
        options = None
        described = _described(config.options_file, config.options_origin, options_file)
        try:
            _check_sha256(options_file, config.options_sha256, "options_sha256", described)
            options = read_options(options_file, described)
        except (CheckpointError, OSError) as error:
            problems.append(_as_problem(error, described))
        described = _described(config.weight_file, config.weight_origin, weight_file)
        try:
            _check_sha256(weight_file, config.weight_sha256, "weight_sha256", described)
            check_weight_file(weight_file, expected_datasets(options) if options else None, described)
        except (CheckpointError, OSError) as error:
            problems.append(_as_problem(error, described))
        if problems or options is None:
            raise CheckpointError("\n".join(problems))
        return cls(config, options_file, weight_file, options)

    @property
    def num_layers(self) -> int:
        """Number of biLM layers, the token layer included."""
        return self.options.num_layers

    @property
    def output_dim(self) -> int:
        """Width of every layer: `2 * lstm.projection_dim`."""
        return self.options.output_dim

    @property
    def max_characters_per_token(self) -> int:
        """Number of character ids of a token."""
        return MAX_CHARACTERS_PER_TOKEN

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the contents of `options.json` followed by those of `weights.hdf5`, hexadecimal."""
        digest = hashlib.sha256()
        for path in (self.options_file, self.weight_file):
            with open(path, "rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
        return digest.hexdigest()


def expected_datasets(options: ElmoOptions) -> dict[str, tuple[int, ...]]:
    """Shape of every dataset that `weights.hdf5` must have, by its path in the file (bilm-tf's layout)."""
    cnn, lstm = options.char_cnn, options.lstm
    n_filters = cnn.n_filters
    shapes: dict[str, tuple[int, ...]] = {"char_embed": (261, cnn.embedding.dim)}
    for i, (width, number) in enumerate(cnn.filters):
        shapes[f"CNN/W_cnn_{i}"] = (1, width, cnn.embedding.dim, number)
        shapes[f"CNN/b_cnn_{i}"] = (number,)
    for k in range(cnn.n_highway):
        for gate in ("transform", "carry"):
            shapes[f"CNN_high_{k}/W_{gate}"] = (n_filters, n_filters)
            shapes[f"CNN_high_{k}/b_{gate}"] = (n_filters,)
    shapes["CNN_proj/W_proj"] = (n_filters, lstm.projection_dim)
    shapes["CNN_proj/b_proj"] = (lstm.projection_dim,)
    for direction in (0, 1):
        for layer in range(lstm.n_layers):
            cell = f"RNN_{direction}/RNN/MultiRNNCell/Cell{layer}/LSTMCell"
            shapes[f"{cell}/W_0"] = (2 * lstm.projection_dim, 4 * lstm.dim)
            shapes[f"{cell}/B"] = (4 * lstm.dim,)
            shapes[f"{cell}/W_P_0"] = (lstm.dim, lstm.projection_dim)
    return shapes


def _described(path: str, origin: str, local: Path) -> str:
    """How messages call a file. The cache would give a damaged download again and again: say where it is."""
    cached = f"; to fetch it again, delete {str(local)!r}" if REMOTE.match(path) else ""
    return f"{path} (from {origin}{cached})"


def _check_sha256(path: Path, expected: str | None, argument: str, described: str) -> None:
    if expected is None:
        return
    with open(path, "rb") as file:
        received = hashlib.file_digest(file, "sha256").hexdigest()
    if received != expected.lower():
        raise CheckpointError(
            f"`{argument}` must be the checksum of the file. Received: {described} with SHA-256 {received}, "
            f"expected {expected.lower()}. The file is damaged or another one: fetch it again, or correct the "
            "checksum."
        )


def _as_problem(error: BridgeError | OSError, described: str) -> str:
    if isinstance(error, BridgeError):
        return str(error)
    return (
        f"{described} must be readable. Received: {type(error).__name__}: {error}. Check its permissions, and that "
        "no other program is writing it."
    )
