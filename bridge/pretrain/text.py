"""The files of a training text: that they can be read again and again, and are still the same."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bridge.corpus.sources import Corpus
from bridge.pretrain.shuffled_sentences import check_can_be_read_again


def open_text(argument: str, inputs: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> Corpus:
    """The corpus of an argument.

    Raises:
        InputTypeError, InputValueError, ResourceNotFoundError: see `Corpus`; or it is the standard input or a pipe.
    """
    corpus = Corpus(inputs)
    check_can_be_read_again(argument, corpus)
    return corpus


def fingerprint(corpus: Corpus) -> dict[str, Any]:
    """What files there are, as JSON: names, sizes in bytes, and a SHA-256 of all of their contents."""
    digest = hashlib.sha256()
    for file in corpus.files:
        with open(file, "rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return {
        "files": [Path(name).name for name in corpus.names],
        "bytes": [os.path.getsize(file) for file in corpus.files],
        "sha256": digest.hexdigest(),
    }
