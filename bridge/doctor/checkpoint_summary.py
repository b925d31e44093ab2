"""What a checkpoint is: `summarise`. Reads `options.json` and `weights.hdf5`, and imports no framework."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Literal

import h5py
from pydantic import BaseModel, ConfigDict

from bridge.doctor.checkpoint_problems import look_at
from bridge.doctor.findings import Words, without_secrets
from bridge.errors import BridgeError
from bridge.resources.checkpoint import Checkpoint, expected_datasets
from bridge.resources.config import ElmoConfig
from bridge.resources.options import ElmoOptions

FLOAT32_BYTES, HALF_BYTES = 4, 2
# Parts of a biLM, by how their datasets begin.
PARTS = {
    "character_embedding": "char_embed",
    "character_cnn": "CNN/",
    "highway": "CNN_high_",
    "projection": "CNN_proj/",
    "forward_lstm": "RNN_0/",
    "backward_lstm": "RNN_1/",
}


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FileSummary(_Part):
    """A file on disk."""

    path: Words
    bytes: int
    sha256: str


class Memory(_Part):
    """What running the biLM needs, in bytes.

    Attributes:
        float32_weights: with `precision="float32"`, whatever the dtype of the file.
        half_weights: with `precision="bfloat16"` or `"float16"`, where the processor has it: the LSTMs are halved.
        vectors_per_token: all layers of a token, padding included, as float32: what a batch of vectors takes.
    """

    float32_weights: int
    half_weights: int
    vectors_per_token: int


class CheckpointSummary(_Part):
    """What a checkpoint is; the schema of `elmo-bridge inspect --json`. None where a problem hides it.

    Attributes:
        schema_version: 1: fields may be added under it, none is renamed, removed or given another meaning.
        config: the two files as the config names them.
        options_file, weight_file: the local files.
        fingerprint: SHA-256 of the contents of both, one after the other: what saved models and features remember.
        options: the contents of `options.json`, as far as ELMo reads them.
        num_layers, output_dim: of the vectors: layers, the token layer included, and their width.
        character_rows: rows of the character embedding in the file.
        parameters: numbers in the file, by part and in `total`. AllenNLP's module has a row more in its character
            embedding, for "no token".
        weights_dtypes: of the datasets, as they are stored.
        memory: what running it needs.
        problems: everything that is wrong with the config, and with either file.
    """

    schema_version: Literal[1] = 1
    config: Words
    options_file: FileSummary | None = None
    weight_file: FileSummary | None = None
    fingerprint: str | None = None
    options: ElmoOptions | None = None
    num_layers: int | None = None
    output_dim: int | None = None
    character_rows: int | None = None
    parameters: dict[str, int] | None = None
    weights_dtypes: list[str] | None = None
    memory: Memory | None = None
    problems: list[Words] = []


def summarise(config: str, *, download: bool = False) -> CheckpointSummary:
    """Says what a checkpoint is, and all that is wrong with it. Nothing that is wrong raises.

    Args:
        config: an INI file or a named model.
        download: whether files at a URL may be downloaded. Otherwise they must be in the cache already.
    """
    try:
        elmo_config = ElmoConfig.load(config)
    except BridgeError as error:
        return CheckpointSummary(config=config, problems=[str(error)])
    options_file, weight_file, options, checkpoint, problems = look_at(elmo_config, download)
    parameters = count_parameters(options) if options else None
    return CheckpointSummary(
        config=without_secrets(str(elmo_config)),
        options_file=_file_summary(options_file),
        weight_file=_file_summary(weight_file),
        fingerprint=checkpoint.fingerprint if checkpoint else None,
        options=options,
        num_layers=options.num_layers if options else None,
        output_dim=options.output_dim if options else None,
        character_rows=expected_datasets(options)["char_embed"][0] if options else None,
        parameters=parameters,
        weights_dtypes=_dtypes(checkpoint) if checkpoint else None,
        memory=_memory(options, parameters) if options and parameters else None,
        problems=problems,
    )


def count_parameters(options: ElmoOptions) -> dict[str, int]:
    """How many numbers the weight file of these options has, by part and in `total`."""
    sizes = {name: math.prod(shape) for name, shape in expected_datasets(options).items()}
    parts = {part: sum(size for name, size in sizes.items() if name.startswith(key)) for part, key in PARTS.items()}
    return {**parts, "total": sum(sizes.values())}


def _memory(options: ElmoOptions, parameters: dict[str, int]) -> Memory:
    lstms = parameters["forward_lstm"] + parameters["backward_lstm"]
    return Memory(
        float32_weights=FLOAT32_BYTES * parameters["total"],
        half_weights=FLOAT32_BYTES * (parameters["total"] - lstms) + HALF_BYTES * lstms,
        vectors_per_token=FLOAT32_BYTES * options.num_layers * options.output_dim,
    )


def _file_summary(path: Path | None) -> FileSummary | None:
    if path is None:
        return None
    try:
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return FileSummary(path=str(path), bytes=path.stat().st_size, sha256=digest)
    except OSError:  # is a problem already
        return None


def _dtypes(checkpoint: Checkpoint) -> list[str]:
    with h5py.File(checkpoint.weight_file, "r") as file:
        return sorted({str(file[name].dtype) for name in expected_datasets(checkpoint.options)})
