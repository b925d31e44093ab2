"""The state from which `state="warm"` starts every sentence: that of a biLM which has just read a short text.

The text is `warm_up.txt` beside this file, a sentence a line, its tokens between spaces. Another text would give
other vectors, so its hash is recorded wherever vectors or models are.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from bridge.text.characters import batch_to_ids

TEXT = Path(__file__).with_name("warm_up.txt").read_bytes()
WARM_UP_SHA256 = hashlib.sha256(TEXT).hexdigest()


def warm_up_batches() -> list:
    """Character ids `(1, timesteps, 50)` of each sentence, in reading order."""
    return [batch_to_ids([line.split()]) for line in TEXT.decode("utf-8").splitlines()]
