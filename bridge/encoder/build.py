"""Builds AllenNLP's `Elmo` from a checkpoint, whatever the caller's PyTorch settings are."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from bridge.encoder.elmo_import import import_elmo
from bridge.resources.checkpoint import Checkpoint

# Building borrows torch's seed and default dtype, which are the whole process's: one module at a time.
_building = threading.Lock()


def build_elmo(checkpoint: Checkpoint, keep_sentence_boundaries: bool, device: torch.device) -> Any:
    """Returns AllenNLP's `Elmo` with the checkpoint's weights, frozen, in evaluation mode.

    Raises:
        MissingDependencyError: AllenNLP is not installed.
    """
    # AllenNLP draws random weights before it loads the real ones: keep that out of the caller's seed.
    # The caller's default dtype, default device and inference mode must not shape the module either.
    with (
        _building,
        torch.random.fork_rng(devices=[]),
        torch.inference_mode(False),
        torch.device("cpu"),
        _float32_by_default(),
    ):
        module = import_elmo().Elmo(
            str(checkpoint.options_file),
            str(checkpoint.weight_file),
            num_output_representations=1,
            dropout=0.0,
            keep_sentence_boundaries=keep_sentence_boundaries,
        )
    return module.to(device).eval()


@contextmanager
def _float32_by_default() -> Iterator[None]:
    dtype = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(dtype)
