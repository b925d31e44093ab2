"""What all runs keep to, wherever they write: the text and the settings that they began with."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bridge.corpus.sources import Corpus, Sentence
from bridge.errors import InputValueError, OutputError
from bridge.features.metadata import FeatureMetadata

# What makes the numbers. The form of the file may change until it is written.
SETTINGS = {"fingerprint", "state", "precision", "layers", "dtype", "tokenization"}


def check_parent(output: Path) -> None:
    """Raises OutputError unless something can be made in the folder of `output`."""
    if not output.parent.is_dir():
        raise OutputError(
            f"`output` must be in a folder that exists. Received: {str(output)!r}. Make the folder first."
        )
    if not os.access(output.parent, os.W_OK | os.X_OK):
        raise OutputError(
            f"`output` must be in a folder that can be written. Received: {str(output)!r}. Correct the permissions "
            "of the folder, or name another one."
        )


def check_same_settings(began: Mapping[str, Any], settings: Mapping[str, Any], folder: Path | str) -> None:
    """Raises InputValueError where a run that is to go on began with other settings."""
    differences = [
        f"`{name}` was {began.get(name)!r} and is {value!r}"
        for name, value in settings.items()
        if began.get(name) != value
    ]
    if differences:
        raise InputValueError(
            f"A run must be resumed with the settings that it began with. Received: {'; '.join(differences)}. Give "
            f"the same again, or begin anew with `overwrite` (--overwrite), which discards what is in {folder}."
        )


def check_same_text(before: Sequence[tuple[str, int]], now: Sequence[Sentence], first: int) -> None:
    """Raises InputValueError where sentences are not those that were embedded before.

    Args:
        before: their texts and numbers of tokens.
        now: what was read.
        first: number of the first one.
    """
    found = [(sentence.text, len(sentence.tokens)) for sentence in now]
    if before == found:
        return
    pairs = enumerate(zip(before, found, strict=False))
    place = next((place for place, (old, new) in pairs if old != new), len(found))
    received = "is {!r:.80}, of {} tokens,".format(*found[place]) if place < len(found) else "is not there"
    raise InputValueError(
        f"A run must be resumed with the text that it began with. Received: sentence {first + place} (counted from 0) "
        f"{received} and was {before[place][0]!r:.80}, of {before[place][1]} tokens. Give the same text, or begin anew "
        "with `overwrite` (--overwrite)."
    )


def check_whole_text(sentences: int, room: int | None) -> None:
    """Raises InputValueError where the text has ended, and sentences behind its end were embedded before."""
    if room is not None:
        raise InputValueError(
            f"A run must be resumed with the text that it began with. Received: {sentences} sentences, and more were "
            "embedded before. Give the whole text, or begin anew with `overwrite` (--overwrite)."
        )


def check_finished(
    output: Path | str,
    metadata: FeatureMetadata | None,
    settings: Mapping[str, Any],
    corpus: Corpus,
    *,
    resume: bool,
) -> None:
    """Raises InputValueError unless an output that is there is what was asked for, by a run that is to go on.

    Of the text only the number of sentences is compared: the output need not have them.
    """
    if not resume:
        raise InputValueError(
            f"`output` must not exist. Received: {str(output)!r}. Name another one, or replace it with `overwrite` "
            "(--overwrite)."
        )
    made = {} if metadata is None else metadata.model_dump(include=SETTINGS)
    differences = [
        f"`{name}` was {value!r} and is {settings[name]!r}" for name, value in made.items() if value != settings[name]
    ]
    if metadata is not None and not differences:
        sentences = sum(1 for _ in corpus.sentences())
        if sentences != metadata.sentences:
            differences = [f"the text had {metadata.sentences} sentences and has {sentences}"]
    if differences or metadata is None:
        raise InputValueError(
            f"`output` must be what this run would write, or not exist. Received: {str(output)!r}, where "
            f"{'; '.join(differences) or 'nothing says how it was made'}. Name another one, or replace it with "
            "`overwrite` (--overwrite)."
        )
