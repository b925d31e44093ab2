"""What the writers of all formats share: `SentenceWriter`."""

from __future__ import annotations

import os
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self

import numpy as np

from bridge.checks import check_boolean
from bridge.errors import InputValueError, ProcessError
from bridge.features.metadata import FeatureMetadata
from bridge.features.partial_file import PartialFile
from bridge.features.sentence_checks import as_stored, as_text
from bridge.features.uninterrupted import uninterrupted


class SentenceWriter(ABC):
    """Takes sentence after sentence, and makes a feature file when it is closed.

    A context manager. An exception inside `with` leaves no file, and neither does a process that is killed.

    Args:
        path: the file to make. Its folder is made too.
        metadata: of the features. The counts of sentences and tokens are written by the writer, others as given.
        overwrite: replace a file of that name, when the new one is complete.

    Raises:
        InputValueError: the path is taken.
        OutputError: the file can't be made.
    """

    def __init__(self, path: str | os.PathLike[str], metadata: FeatureMetadata, overwrite: bool) -> None:
        check_boolean("overwrite", overwrite)
        self._metadata = metadata
        self._sentences = self._tokens = self._empty_sentences = 0
        self._is_complete = False
        self._pid = os.getpid()
        uninterrupted(lambda: self._start(path, overwrite))

    def _start(self, path: str | os.PathLike[str], overwrite: bool) -> None:
        self._partial = PartialFile(path, overwrite=overwrite)
        try:
            # Also where the writer is forgotten: HDF5 must not write when Python has ended.
            self._finalizer = weakref.finalize(self, _abandon, self._begin(self._partial), self._partial)
        except BaseException:  # a Ctrl-C, too: nothing half-written stays
            self._partial.discard()
            raise

    @abstractmethod
    def _begin(self, file: PartialFile) -> Callable[[], object]:
        """Begins the file, and returns what closes it, whatever has happened to it."""

    @abstractmethod
    def _append(self, features: np.ndarray, sentence: str | None) -> None:
        """Takes a sentence: contiguous, in the dtype of the file. An InputValueError leaves the file as it was.

        The array may be the caller's. What calls the library must be `uninterrupted`.
        """

    @abstractmethod
    def _finish(self, metadata: FeatureMetadata) -> None:
        """Writes what comes after the last sentence, and closes the file."""

    @property
    def path(self) -> str:
        """The final name of the file."""
        return str(self._partial.path)

    @property
    def metadata(self) -> FeatureMetadata:
        """What the file will say of itself, with the counts so far."""
        return self._metadata.with_counts(
            sentences=self._sentences, tokens=self._tokens, empty_sentences=self._empty_sentences
        )

    def __len__(self) -> int:
        return self._sentences

    def append(self, features: np.ndarray, sentence: str | Sequence[str] | None = None) -> None:
        """Adds the next sentence.

        Args:
            features: float32 or float16 `(timesteps, *metadata.token_shape)`; stored in `metadata.dtype`.
            sentence: its text, or its tokens; None where it is not to be remembered.

        Raises:
            InputTypeError, InputValueError: the features have another type or shape, or are not finite in the dtype
                of the file. It is as if the call had not been.
            OutputError: the file can't be written, as on a full disk. It is given up.
        """
        self._check_is_open()
        text = as_text(sentence)
        stored = as_stored(features, self._metadata, self._sentences, text)
        try:
            self._append(stored, text)
            self._partial.check()
        except InputValueError:
            raise
        except BaseException:  # a Ctrl-C too: half a sentence may be written
            self._give_up()
            raise
        self._sentences += 1
        self._tokens += len(stored)
        self._empty_sentences += not len(stored)

    def close(self) -> None:
        """Makes the file: it is complete, synced to the disk, and has its name. Again, it does nothing.

        Raises:
            OutputError: it can't be written; nothing is left of it.
            InputValueError: it was given up, or a file of that name came meanwhile.
        """
        if self._is_complete:
            return
        self._check_is_open()
        try:
            metadata = self.metadata
            uninterrupted(lambda: self._finish(metadata))
        except BaseException:  # a Ctrl-C, too: nothing half-written stays
            self._give_up()
            raise
        self._finalizer.detach()
        self._partial.commit()
        self._is_complete = True

    def abandon(self) -> None:
        """Ends without a file."""
        uninterrupted(self._finalizer)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abandon()

    def _give_up(self) -> None:
        """Ends after an error. Where a write failed that is what is told: other errors follow from it."""
        self.abandon()
        self._partial.check()

    def _check_is_open(self) -> None:
        if os.getpid() != self._pid:
            raise ProcessError(
                f"A feature file must be written by the process that made it. Received: {self.path!r} in a forked "
                "child. Let the child return its features."
            )
        if self._is_complete or not self._finalizer.alive:
            received = "is complete" if self._is_complete else "was given up, by an error or by `abandon`"
            raise InputValueError(
                f"A feature file must be open to be written. Received: {self.path!r}, which {received}. Make it anew."
            )


def _abandon(close: Callable[[], object], partial: PartialFile) -> None:
    try:
        with suppress(Exception):  # after a failed write HDF5 may miss what was dropped; nobody reads the file
            close()
    finally:
        partial.discard()
