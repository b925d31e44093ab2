"""Writing HDF5 feature files: `FeatureWriter`."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Literal

import numpy as np

from bridge.checks import check_boolean, check_choice
from bridge.errors import InputValueError
from bridge.features.elmo_layout import ElmoLayoutWriter
from bridge.features.hdf5_files import Compression, create_file, write_attribute
from bridge.features.metadata import FeatureMetadata
from bridge.features.packed_layout import PackedLayoutWriter
from bridge.features.partial_file import PartialFile
from bridge.features.sentence_writer import SentenceWriter

Layout = Literal["elmo", "packed"]


class FeatureWriter(SentenceWriter):
    """What `FeatureStore.create` returns, and its arguments are described there."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        metadata: FeatureMetadata,
        *,
        layout: Layout = "elmo",
        compression: Compression | None = None,
        use_sentence_keys: bool = False,
        forget_sentences: bool = False,
        overwrite: bool = False,
    ) -> None:
        check_choice("layout", layout, Layout)
        if compression is not None:
            check_choice("compression", compression, Compression)
        for name, value in (("use_sentence_keys", use_sentence_keys), ("forget_sentences", forget_sentences)):
            check_boolean(name, value)
        if use_sentence_keys and (layout != "elmo" or forget_sentences):
            other = '`layout="packed"`' if layout != "elmo" else "`forget_sentences`"
            raise InputValueError(
                f'`use_sentence_keys` must come with `layout="elmo"` and remembered sentences. Received: {other}. '
                "Leave one of them out."
            )
        self._layout = layout
        self._compression = compression
        self._use_sentence_keys = use_sentence_keys
        self._forget_sentences = forget_sentences
        super().__init__(path, metadata, overwrite)

    def _begin(self, file: PartialFile) -> Callable[[], object]:
        self._file = create_file(file)
        self._writer: ElmoLayoutWriter | PackedLayoutWriter
        if self._layout == "elmo":
            self._writer = ElmoLayoutWriter(
                self._file, self._metadata, self._compression, self._use_sentence_keys, self._forget_sentences
            )
        else:
            self._writer = PackedLayoutWriter(self._file, self._metadata, self._compression, self._forget_sentences)
        return self._file.close

    def _append(self, features: np.ndarray, sentence: str | None) -> None:
        self._writer.append(features, sentence)

    def _finish(self, metadata: FeatureMetadata) -> None:
        self._writer.close()
        write_attribute(self._file, "elmo_bridge", metadata.to_json())
        self._file.close()
