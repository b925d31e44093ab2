"""One GPU for both frameworks: by default TensorFlow takes all of its memory at its first operation."""

from __future__ import annotations

import os
from typing import Any

import tensorflow as tf


def share_gpu_memory(device: Any) -> None:
    """Where PyTorch is to run on a GPU, makes TensorFlow take only the memory that it needs.

    Changes nothing where the user has decided: by `set_memory_growth`, a limit or `TF_FORCE_GPU_ALLOW_GROWTH`. After
    TensorFlow's first operation it is too late.

    Args:
        device: of the biLM, as PyTorch calls it.
    """
    is_gpu = isinstance(device, int) or str(device).startswith("cuda")
    if not is_gpu or "TF_FORCE_GPU_ALLOW_GROWTH" in os.environ:
        return
    for gpu in tf.config.list_physical_devices("GPU"):
        growth = tf.config.experimental.get_memory_growth(gpu)  # None until somebody decides
        if growth is None and not tf.config.get_logical_device_configuration(gpu):
            try:
                tf.config.experimental.set_memory_growth(gpu, True)
            except RuntimeError:  # it is in use
                return
