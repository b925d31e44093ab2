"""Features on disk: `FeatureStore`."""

from __future__ import annotations

import operator
import os
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, SupportsIndex, overload

import numpy as np

from bridge.errors import FeatureStoreError, InputTypeError, InputValueError
from bridge.features.elmo_reader import ElmoLayoutReader
from bridge.features.hdf5_files import Compression, open_for_reading, read_text_attribute, unusable
from bridge.features.metadata import FeatureMetadata
from bridge.features.packed_layout import PackedLayoutReader
from bridge.features.writer import FeatureWriter, Layout
from bridge.packages import require_packages
from bridge.resources.checkpoint import Checkpoint
from bridge.resources.config import ElmoConfig

__all__ = ["Compression", "FeatureStore", "Layout"]


class FeatureStore:
    """An HDF5 file of biLM layers, a sequence of sentences: `FeatureStore.open` reads it, `create` writes one.

    `store[i]` is float32 `(timesteps, num_layers, output_dim)`, ready for `ScalarMix`, or `(timesteps, output_dim)`
    where one layer is stored, whatever the layout on disk. Files of AllenNLP 0.9's `elmo` command can be read too;
    they do not say which weights made them: `metadata` is None.

    A context manager. May be used from several threads, and pickled: it is opened again by its path then. Neither
    PyTorch nor TensorFlow is imported.

    Attributes:
        path: of the file.
        metadata: what the file says of itself, or None.
        layout: `"elmo"` or `"packed"`.

    Example:
        >>> encoder = ElmoEncoder("demo")
        >>> metadata = FeatureMetadata.of(encoder, layers="all", dtype="float32")
        >>> with FeatureStore.create("features.hdf5", metadata) as writer:
        ...     for tokens in sentences:
        ...         writer.append(encoder.embed([tokens])[0], tokens)
        >>> with FeatureStore.open("features.hdf5", config="demo") as store:
        ...     store[0].shape
        (3, 3, 128)
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._absolute_path = self.path.absolute()
        name = os.fspath(path)
        self._file = open_for_reading(name)
        try:
            text = read_text_attribute(self._file, "elmo_bridge", name)
            self.metadata = None if text is None else FeatureMetadata.from_json(text, repr(name))
            layout = read_text_attribute(self._file, "layout", name)
            self._reader: ElmoLayoutReader | PackedLayoutReader
            self.layout: Layout
            if self.metadata is not None and layout == "packed":
                self.layout, self._reader = "packed", PackedLayoutReader(self._file, name, self.metadata)
            elif (self.metadata is None) == (layout is None) and layout in ("elmo", None):
                self.layout, self._reader = "elmo", ElmoLayoutReader(self._file, name, self.metadata)
            else:
                raise unusable(
                    name, "the attribute 'layout'", f"is {layout!r}, or the attribute 'elmo_bridge' is missing"
                )
        except BaseException:  # a Ctrl-C, too: HDF5 would keep the file open
            self._file.close()
            raise

    @classmethod
    def open(
        cls, path: str | os.PathLike[str], *, config: str | os.PathLike[str] | ElmoConfig | Checkpoint | None = None
    ) -> FeatureStore:
        """Opens a feature file.

        Args:
            path: an HDF5 file in either layout.
            config: the weights that the features must be of: a `Checkpoint`, or what `ElmoConfig.load` accepts. Not
                checked by default.

        Raises:
            ResourceNotFoundError: the file is not there.
            FeatureStoreError: it is no feature file, is damaged, or was made by other weights, or does not say by
                which.
        """
        store = cls(path)
        try:
            if config is not None:
                if store.metadata is None:
                    raise FeatureStoreError(
                        "`config` must be given only for a file that says which weights made it. Received: "
                        f"{os.fspath(path)!r}, which does not, as AllenNLP's own files do not. Leave `config` out, "
                        "and take care yourself that they are the right ones."
                    )
                store.metadata.check_model(config, repr(os.fspath(path)))
        except BaseException:  # a Ctrl-C, too: the file is closed
            store.close()
            raise
        return store

    @staticmethod
    def create(
        path: str | os.PathLike[str],
        metadata: FeatureMetadata,
        *,
        layout: Layout = "elmo",
        compression: Compression | None = None,
        use_sentence_keys: bool = False,
        forget_sentences: bool = False,
        overwrite: bool = False,
    ) -> FeatureWriter:
        """Begins a feature file, which appears under its name when the writer is closed, as a whole.

        Args:
            path: the file to make. Its folder is made too.
            metadata: of the features. The counts of sentences and tokens are written by the writer, others as given.
            layout: `"elmo"`: a dataset a sentence, as AllenNLP 0.9's `elmo` command wrote it. `"packed"`: all in one
                dataset, smaller and many times faster to read and write.
            compression: `"gzip"` or `"lzf"` (faster). Features are hard to compress.
            use_sentence_keys: name every dataset by its sentence instead of its line, as AllenNLP's
                `--use-sentence-keys`. `/`, NUL and a lone `.` are written as in a URL. An empty sentence is left out
                then, and of equal ones all but the first.
            forget_sentences: leave the sentences themselves out, as AllenNLP's `--forget-sentences`.
            overwrite: replace a file of that name, when the new one is complete.

        Returns:
            A `FeatureWriter`: a context manager with `append(features, sentence)`.

        Raises:
            InputValueError: the path is taken, or arguments exclude each other.
            OutputError: the file can't be made.
        """
        return FeatureWriter(
            path,
            metadata,
            layout=layout,
            compression=compression,
            use_sentence_keys=use_sentence_keys,
            forget_sentences=forget_sentences,
            overwrite=overwrite,
        )

    @property
    def token_shape(self) -> tuple[int, ...]:
        """Shape of one token's features: `(num_layers, output_dim)` or `(output_dim,)`."""
        return self._reader.token_shape

    @property
    def dtype(self) -> np.dtype:
        """Of the features in the file; `store[i]` is float32 in any case."""
        return self._reader.dtype

    @cached_property
    def lengths(self) -> np.ndarray:
        """Timesteps of every sentence: int64 `(sentences,)`."""
        self._check_is_open()
        lengths = self._reader.lengths(0, len(self))
        lengths.flags.writeable = False
        return lengths

    def __len__(self) -> int:
        return len(self._reader)

    @overload
    def __getitem__(self, index: SupportsIndex) -> np.ndarray: ...
    @overload
    def __getitem__(self, index: slice) -> list[np.ndarray]: ...
    def __getitem__(self, index: SupportsIndex | slice) -> np.ndarray | list[np.ndarray]:
        self._check_is_open()
        if isinstance(index, slice):
            return [self._features(number) for number in range(*index.indices(len(self)))]
        try:
            number = operator.index(index)
        except TypeError:
            raise InputTypeError(
                f"A store's index must be an integer or a slice. Received: {index!r:.80} of type "
                f"{type(index).__name__}."
            ) from None
        if not -len(self) <= number < len(self):
            raise IndexError(f"{self.path} has {len(self)} sentences. Received: the index {number}.")
        return self._features(number % len(self))

    def __iter__(self) -> Iterator[np.ndarray]:
        return map(self.__getitem__, range(len(self)))

    def read(self, start: int = 0, stop: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Reads sentences in a row at once: the quickest way, with the packed layout.

        Args:
            start, stop: the first sentence, and the one behind the last, as in a slice.

        Returns:
            Their features one after the other, `(tokens, *token_shape)` in the dtype of the file, and their lengths,
            int64 `(sentences,)`.
        """
        self._check_is_open()
        start, stop, _ = slice(start, stop).indices(len(self))
        stop = max(start, stop)
        return self._reader.read(start, stop), self._reader.lengths(start, stop)

    def sentence(self, index: int) -> str | None:
        """A sentence's text, where the file has it. It is that of tokens joined by spaces."""
        self._check_is_open()
        return self._reader.sentence(range(len(self))[index])

    @property
    def has_sentences(self) -> bool:
        """Whether the file has the text of its sentences."""
        self._check_is_open()
        return self._reader.has_sentences

    def sentences(self) -> Iterator[str | None]:
        """All sentences, in order."""
        return map(self.sentence, range(len(self)))

    def dataset(self, *args: Any, **kwargs: Any) -> Any:
        """The features as a `tf.data.Dataset` of batches: see `bridge.features.dataset`."""
        require_packages("tensorflow")
        from bridge.features.dataset import feature_dataset  # noqa: PLC0415 - TensorFlow is imported only for this

        return feature_dataset(self, *args, **kwargs)

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def __enter__(self) -> FeatureStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self._absolute_path, self.metadata, len(self))

    def __repr__(self) -> str:
        return f"FeatureStore({os.fspath(self.path)!r}, layout={self.layout!r}, sentences={len(self)})"

    def _features(self, index: int) -> np.ndarray:
        return self._reader.read(index, index + 1).astype(np.float32, copy=False)

    def _check_is_open(self) -> None:
        if not self._file.id:
            raise InputValueError(f"A store must be open to be read. Received: {os.fspath(self.path)!r}, closed.")


def _reopen(path: Path, metadata: FeatureMetadata | None, sentences: int) -> FeatureStore:
    store = FeatureStore(path)
    if store.metadata != metadata or len(store) != sentences:
        store.close()
        raise FeatureStoreError(
            f"A pickled store must find its file as it was. Received: {os.fspath(path)!r}, which is another one now. "
            "Open that, or bring the file back."
        )
    return store
