"""Features as Parquet: the form of its tables, and `ParquetWriter`. It needs the extra `parquet`.

| column | what it is |
|---|---|
| `sentence_id` | int64, from 0: the sentence's place in the corpus |
| `sentence` | string; null where it is not known |
| `timesteps` | int32 |
| `features` | a list of float or halffloat: `(timesteps, *token_shape)` row by row |

The JSON of `FeatureMetadata` is under the key `elmo_bridge` of the schema. Pages have checksums; what Parquet keeps
about them has none.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from bridge.checks import check_choice
from bridge.errors import InputValueError
from bridge.features.metadata import FeatureMetadata
from bridge.features.parquet_reader import EXTRA, METADATA_KEY, read_parquet
from bridge.features.partial_file import PartialFile
from bridge.features.sentence_writer import SentenceWriter
from bridge.features.uninterrupted import uninterrupted
from bridge.optional import require

__all__ = ["METADATA_KEY", "ParquetCompression", "ParquetWriter", "features_column", "features_table", "read_parquet"]

ParquetCompression = Literal["snappy", "gzip", "zstd", "lz4"]

# What a writer keeps in memory, and readers of other programs load at a time.
ROW_GROUP_TOKENS = 16384
ROW_GROUP_BYTES = 1 << 26
ROW_GROUP_SENTENCES = 65536
# Offsets of a list are int32.
MAX_LIST_VALUES = 2**31 - 1


def features_table(
    sentence_ids: Sequence[int],
    sentences: Sequence[str | None],
    features: Sequence[np.ndarray],
    metadata: FeatureMetadata,
) -> Any:
    """Sentences and their features as a table, to be written as a Parquet file, or one of a folder of shards.

    Args:
        sentence_ids: numbers of the sentences.
        sentences: their texts.
        features: of each, `(timesteps, *token_shape)` in the dtype of the metadata.
        metadata: its counts of sentences and tokens are made those of the table; the others must be so.

    Returns:
        A `pyarrow.Table`.

    Raises:
        InputValueError: there are not as many features as sentences, or more values than a list can hold.
    """
    arrow = require("pyarrow", EXTRA)
    if not len(sentence_ids) == len(sentences) == len(features):
        raise InputValueError(
            "`sentence_ids`, `sentences` and `features` must have one item for each sentence. Received: "
            f"{len(sentence_ids)}, {len(sentences)} and {len(features)}."
        )
    lengths = [len(values) for values in features]
    if sum(lengths) * int(np.prod(metadata.token_shape)) > MAX_LIST_VALUES:
        raise InputValueError(
            f"A table must have {MAX_LIST_VALUES} numbers at most. Received: {sum(lengths)} tokens of "
            f"{metadata.token_shape}. Make several tables of fewer sentences."
        )
    metadata = metadata.with_counts(
        sentences=len(lengths), tokens=sum(lengths), empty_sentences=len(lengths) - np.count_nonzero(lengths)
    )
    schema = _schema(metadata).with_metadata({METADATA_KEY: metadata.to_json().encode()})
    # Of a lone surrogate UTF-8 has no form.
    texts = [None if text is None else text.encode("utf-8", "ignore").decode() for text in sentences]
    return arrow.table([sentence_ids, texts, lengths, features_column(features, metadata)], schema=schema)


def features_column(features: Sequence[np.ndarray], metadata: FeatureMetadata) -> Any:
    """The column `features`: of every sentence its numbers, row by row.

    Args:
        features: of each sentence, `(timesteps, *token_shape)` in the dtype of the metadata.
        metadata: of the features.

    Returns:
        A `pyarrow.Array`, or a `pyarrow.ChunkedArray` where there are more numbers than one can hold.
    """
    arrow = require("pyarrow", EXTRA)
    width = int(np.prod(metadata.token_shape))
    offsets = np.concatenate([[0], np.cumsum([len(values) * width for values in features], dtype=np.int64)])
    if offsets[-1] > MAX_LIST_VALUES and len(features) > 1:
        middle = len(features) // 2
        halves = [features_column(part, metadata) for part in (features[:middle], features[middle:])]
        chunks = [chunk for half in halves for chunk in (half.chunks if hasattr(half, "chunks") else [half])]
        return arrow.chunked_array(chunks)
    values = np.concatenate([np.empty(0, metadata.dtype), *(values.reshape(-1) for values in features)])
    return arrow.ListArray.from_arrays(arrow.array(offsets, arrow.int32()), arrow.array(values))


class ParquetWriter(SentenceWriter):
    """Writes sentence after sentence as one Parquet file, which appears under its name when the writer is closed.

    A context manager with `append(features, sentence)`, as what `FeatureStore.create` returns. In memory is a row
    group: 16,384 tokens, or 64 MiB.

    Args:
        path: the file to make. Its folder is made too.
        metadata: of the features. The counts of sentences and tokens are written by the writer, others as given.
        compression: `"snappy"`, `"gzip"`, `"zstd"` or `"lz4"`. Features are hard to compress.
        overwrite: replace a file of that name, when the new one is complete.

    Raises:
        MissingDependencyError: pyarrow is not installed.
        InputValueError: the path is taken.
        OutputError: the file can't be made.

    Example:
        >>> with ParquetWriter("features.parquet", metadata) as writer:
        ...     writer.append(vectors, "the cat sat")
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        metadata: FeatureMetadata,
        compression: ParquetCompression | None = None,
        *,
        overwrite: bool = False,
    ) -> None:
        require("pyarrow", EXTRA)
        if compression is not None:
            check_choice("compression", compression, ParquetCompression)
        self._compression = compression
        self._rows: list[tuple[np.ndarray, str | None]] = []
        self._buffered_bytes = self._written = 0
        token_bytes = np.dtype(metadata.dtype).itemsize * int(np.prod(metadata.token_shape))
        self._most_bytes = min(ROW_GROUP_BYTES, ROW_GROUP_TOKENS * token_bytes)
        super().__init__(path, metadata, overwrite)

    def _begin(self, file: PartialFile) -> Callable[[], object]:
        self._parquet = require("pyarrow.parquet", EXTRA).ParquetWriter(
            file,
            _schema(self._metadata),
            compression=self._compression or "none",
            write_page_checksum=True,
            use_dictionary=False,
            write_statistics=["sentence_id"],  # of features they would say nothing
            store_schema=False,  # Parquet's own says as much, and a second one would hide what is added when closing
        )
        return self._parquet.close

    def _append(self, features: np.ndarray, sentence: str | None) -> None:
        if features.size >= 2_000_000_000:
            raise InputValueError(
                "A sentence must have less than 2,000,000,000 numbers to be written as Parquet. Received: the shape "
                f"{features.shape}. Use HDF5."
            )
        # A copy, as the caller may go on using the array, or it may be a view of a far larger one.
        self._rows.append((features.copy(), sentence))
        self._buffered_bytes += features.nbytes
        if self._buffered_bytes >= self._most_bytes or len(self._rows) >= ROW_GROUP_SENTENCES:
            uninterrupted(self._write)

    def _finish(self, metadata: FeatureMetadata) -> None:
        self._write()
        self._parquet.add_key_value_metadata({METADATA_KEY: metadata.to_json().encode()})
        self._parquet.close()

    def _write(self) -> None:
        """Writes a row group."""
        if self._rows:
            ids = range(self._written, self._written + len(self._rows))
            table = features_table(
                ids, [sentence for _, sentence in self._rows], [features for features, _ in self._rows], self._metadata
            )
            # Now: writing takes as much memory again.
            self._rows, self._buffered_bytes, self._written = [], 0, ids.stop
            self._parquet.write_table(table, row_group_size=len(table))


def _schema(metadata: FeatureMetadata) -> Any:
    arrow = require("pyarrow", EXTRA)
    number = arrow.float32() if metadata.dtype == "float32" else arrow.float16()
    return arrow.schema(
        {
            "sentence_id": arrow.int64(),
            "sentence": arrow.string(),
            "timesteps": arrow.int32(),
            "features": arrow.list_(number),
        }
    )
