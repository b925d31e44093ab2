"""GPUs that PyTorch and TensorFlow see, and whether TensorFlow leaves PyTorch any memory."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from bridge.doctor.findings import Finding, note, ok

GROWTH_VARIABLE = "TF_FORCE_GPU_ALLOW_GROWTH"


def memory_grows() -> bool:
    """Whether the environment lets TensorFlow take GPU memory as it needs it."""
    return os.environ.get(GROWTH_VARIABLE, "").lower() == "true"


def check_gpus(torch_gpus: Sequence[str], tensorflow_gpus: Sequence[str], grows: bool) -> Iterator[Finding]:
    """Says what is seen, and when TensorFlow will take all memory.

    Args:
        torch_gpus, tensorflow_gpus: their names, as each framework sees them.
        grows: what `memory_grows` says in the user's own environment.
    """
    if not torch_gpus and not tensorflow_gpus:
        yield ok("gpus", "None; everything runs on the processor.")
        return
    yield ok("gpus", f"PyTorch sees {_listed(torch_gpus)}; TensorFlow sees {_listed(tensorflow_gpus)}.")
    if tensorflow_gpus and not torch_gpus:
        yield note(
            "gpus",
            "TensorFlow has a GPU and PyTorch has none, so that the biLM runs on the processor.",
            'For `device="cuda"` install PyTorch\'s CUDA build, as pytorch.org says.',
        )
    if tensorflow_gpus and torch_gpus and not grows:
        yield note(
            "gpus",
            "TensorFlow takes all memory of the GPU at its first operation, unless a layer with a GPU as its `device` "
            "is made before.",
            "Make that layer first, or let TensorFlow take what it needs everywhere:",
            f"export {GROWTH_VARIABLE}=true",
        )


def _listed(gpus: Sequence[str]) -> str:
    return ", ".join(gpus) or "none"
