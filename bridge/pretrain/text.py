"""The texts of a training: that they can be read again and again, are still the same, and hold nothing but words."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bridge.corpus.sources import Corpus
from bridge.errors import InputValueError, ResourceNotFoundError
from bridge.pretrain.vocabulary import check_no_reserved_token

# What the texts of an argument are for: an error of a file does not say which of them it is.
PURPOSES = {
    "inputs": "`inputs` must be text to train on.",
    "held_out": "`held_out` (--held-out) must be text to measure on.",
}


def open_text(argument: str, inputs: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> Corpus:
    """The corpus of an argument.

    Raises:
        InputTypeError, InputValueError, ResourceNotFoundError: see `Corpus`; or it is the standard input or a pipe.
    """
    try:
        corpus = Corpus(inputs)
    except ResourceNotFoundError as error:
        raise ResourceNotFoundError(f"{PURPOSES[argument]} {error}") from error
    if corpus.total_bytes is None:
        raise InputValueError(
            f"`{argument}` must be files: they are read several times. Received: {', '.join(corpus.names)!r:.300}, the "
            "standard input or a pipe. Write the text to a file first; it may be gzipped."
        )
    return corpus


def held_out_sentences(corpus: Corpus) -> Iterator[list[str]]:
    """The sentences of a held-out text in their order, without empty ones.

    Raises:
        InputValueError: the text has no tokens, holds `<S>`, `</S>` or `<UNK>`, or can't be read.
    """
    is_empty = True
    try:
        for number, sentence in enumerate(corpus.sentences(), start=1):
            if sentence.tokens:
                check_no_reserved_token(sentence.tokens, number)
                is_empty = False
                yield sentence.tokens
    except InputValueError as error:  # which may name a file, or none
        raise InputValueError(f"{PURPOSES['held_out']} {error}") from error
    if is_empty:
        raise InputValueError(
            f"`held_out` (--held-out) must have a token at least. Received: {', '.join(corpus.names)!r:.300}, with "
            "empty lines only, or none. Give a text, or leave it out."
        )


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
