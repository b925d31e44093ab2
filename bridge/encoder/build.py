"""Builds AllenNLP's `Elmo` around a biLM, whatever the caller's PyTorch settings are."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from bridge.encoder.arguments import Engine
from bridge.encoder.elmo_import import import_elmo
from bridge.encoder.fused import FusedBiLm
from bridge.encoder.linear import Precision
from bridge.encoder.shared_weights import SharedWeights
from bridge.errors import InputValueError
from bridge.resources.checkpoint import Checkpoint, expected_datasets
from bridge.resources.weight_file import check_numbers

# Building borrows torch's seed and default dtype, which are the whole process's: one module at a time.
_building = threading.Lock()


def build_elmo(
    checkpoint: Checkpoint,
    engine: Engine,
    precision: Precision,
    device: torch.device,
    keep_sentence_boundaries: bool,
    token_cache_bytes: int,
) -> Any:
    """Returns AllenNLP's `Elmo` with the checkpoint's weights, frozen, in evaluation mode.

    With `engine="fused"` its biLM is a `FusedBiLm`, else AllenNLP's own.

    Raises:
        MissingDependencyError: AllenNLP is not installed.
        InputValueError: AllenNLP's biLM is to be made from `SharedWeights`.
        CheckpointError: the weights are damaged, or have numbers that are NaN or infinite.
    """
    if engine == "allennlp" and isinstance(checkpoint, SharedWeights):
        raise InputValueError(
            '`engine` must be "fused" with SharedWeights, which only that biLM can share. Received: "allennlp". '
            "Give the config that the weights came from."
        )
    # AllenNLP draws random weights before it loads the real ones: keep that out of the caller's seed.
    # The caller's default dtype, default device and inference mode must not shape the module either.
    with (
        _building,
        torch.random.fork_rng(devices=[]),
        torch.inference_mode(False),
        torch.device("cpu"),
        _float32_by_default(),
    ):
        bilm = (
            FusedBiLm(checkpoint, precision=precision, device=device, token_cache_bytes=token_cache_bytes)
            if engine == "fused"
            else None
        )
        elmo = import_elmo().Elmo
        try:
            module = elmo(
                None if bilm else str(checkpoint.options_file),
                None if bilm else str(checkpoint.weight_file),
                num_output_representations=1,
                dropout=0.0,
                keep_sentence_boundaries=keep_sentence_boundaries,
                module=bilm,
            )
        except OSError:  # AllenNLP reads the file by itself, and does not say which dataset is damaged
            check_numbers(checkpoint.weight_file, expected_datasets(checkpoint.options))
            raise
    # Sums are fast, and may overflow where every number is one: the file decides.
    if engine == "allennlp" and not all(parameter.sum().isfinite() for parameter in module.parameters()):
        check_numbers(checkpoint.weight_file, expected_datasets(checkpoint.options))
    return module.to(device).eval()


@contextmanager
def _float32_by_default() -> Iterator[None]:
    dtype = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(dtype)
