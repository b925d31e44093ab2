"""What an options file of bilm-tf says of the training: `read_training_keys`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bridge.errors import UnsupportedError

# bilm-tf's names, and those of `train_bilm`.
KEYS = {
    "dropout": "dropout",
    "batch_size": "batch_size",
    "unroll_steps": "unroll_steps",
    "n_epochs": "epochs",
    "all_clip_norm_val": "max_norm",
}


def read_training_keys(path: Path) -> dict[str, Any]:
    """The arguments of `train_bilm` that an options file holds; published ones hold some, inference ones none.

    Args:
        path: a file that `read_options` has read.

    Raises:
        UnsupportedError: it is of a model that is not ELMo's.
    """
    content = json.loads(path.read_bytes())
    if content.get("bidirectional") is False:
        raise UnsupportedError(
            f"`bidirectional` must be true in an options file. Received: {str(path)!r} with false. ELMo has both "
            "directions: set it to true."
        )
    return {argument: content[key] for key, argument in KEYS.items() if key in content}
