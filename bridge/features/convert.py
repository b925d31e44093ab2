"""Features from one format to another: `convert_features`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple, cast

import numpy as np

from bridge.checks import check_choice
from bridge.errors import FeatureStoreError, InputValueError, ResourceNotFoundError
from bridge.features.metadata import Dtype, FeatureMetadata
from bridge.features.parquet import ParquetCompression, ParquetWriter, read_parquet
from bridge.features.sentence_writer import SentenceWriter
from bridge.features.store import Compression, FeatureStore, Layout
from bridge.resources.checkpoint import Checkpoint
from bridge.resources.config import ElmoConfig

Format = Literal["hdf5", "parquet"]
# Read at a time: some MB.
BLOCK_TOKENS = 1024
BLOCK_SENTENCES = 4096


class _Source(NamedTuple):
    """What is converted: its sentences with their texts, in order."""

    metadata: FeatureMetadata
    has_sentences: bool
    sentences: Iterator[tuple[np.ndarray, str | None]]


def convert_features(
    source: str | os.PathLike[str],
    destination: str | os.PathLike[str],
    *,
    format: Format | None = None,
    layout: Layout = "packed",
    dtype: Dtype | None = None,
    compression: Compression | ParquetCompression | None = None,
    overwrite: bool = False,
    config: str | os.PathLike[str] | ElmoConfig | Checkpoint | None = None,
    layer: Literal["top", "average"] | None = None,
) -> FeatureMetadata:
    """Writes features in another format, layout or dtype, some sentences at a time.

    Sentences keep their order, and are named by their lines. A file of AllenNLP itself does not say how it was made:
    it can be converted where that is told by `config`, and by `layer` where one layer is stored.

    Args:
        source: an HDF5 file of either layout, a Parquet file, or a folder of shards `part-*.parquet`.
        destination: the file to make, as a whole or not at all.
        format: `"hdf5"` or `"parquet"`; by default Parquet where `destination` ends in `.parquet`, else HDF5.
        layout: of HDF5: `"packed"` is quick to read, `"elmo"` is AllenNLP's.
        dtype: `"float32"` or `"float16"`; by default that of the source.
        compression: of HDF5 `"gzip"` or `"lzf"`, of Parquet `"snappy"`, `"gzip"`, `"zstd"` or `"lz4"`.
        overwrite: replace the file that is there, when the new one is complete.
        config: the weights that the features must be of, see `FeatureStore.open`; of a file by AllenNLP itself, those
            that it was made with.
        layer: of a file by AllenNLP itself with one layer: which one that is.

    Returns:
        The metadata of the new file.

    Raises:
        ResourceNotFoundError: the source is not there.
        FeatureStoreError: it is damaged, was made by other weights, or does not say by which.
        InputValueError: the destination is taken, or a value is beyond float16.
        OutputError: the destination can't be written.
        MissingDependencyError: pyarrow is needed and not installed.
    """
    if format is None:
        format = "parquet" if os.fspath(destination).lower().endswith(".parquet") else "hdf5"
    check_choice("format", format, Format)
    if dtype is not None:
        check_choice("dtype", dtype, Dtype)
    with _opened(source, config, layer) as (known, has_sentences, sentences):
        metadata = known if dtype is None else known.with_counts(dtype=dtype)
        writer: SentenceWriter
        if format == "parquet":
            writer = ParquetWriter(destination, metadata, cast(Any, compression), overwrite=overwrite)
        else:
            writer = FeatureStore.create(
                destination,
                metadata,
                layout=layout,
                compression=cast(Any, compression),
                forget_sentences=not has_sentences,
                overwrite=overwrite,
            )
        with writer:
            for features, sentence in sentences:
                writer.append(features, sentence)
    return writer.metadata


@contextmanager
def _opened(
    path: str | os.PathLike[str],
    config: str | os.PathLike[str] | ElmoConfig | Checkpoint | None,
    layer: Literal["top", "average"] | None,
) -> Iterator[_Source]:
    described = repr(os.fspath(path))
    if _is_parquet(path):
        metadata, rows = read_parquet(path)
        if config is not None:
            metadata.check_model(config, described)
        yield _Source(metadata, True, ((features, sentence) for _, sentence, features in rows))
        return
    with FeatureStore(path) as store:
        if store.metadata is None:
            yield _Source(_told_metadata(store, config, layer), store.has_sentences, _stored(store))
            return
        if layer is not None:
            raise InputValueError(
                f"`layer` (--layer) must be given only for a file that does not say which layer it has. Received: "
                f"{layer!r} for {described}, which has {store.metadata.layers!r}. Leave it out: layers are not taken "
                "out of a file."
            )
        if config is not None:
            store.metadata.check_model(config, described)
        yield _Source(store.metadata, store.has_sentences, _stored(store))


def _is_parquet(path: str | os.PathLike[str]) -> bool:
    if os.path.isdir(path):
        return True
    try:
        with open(path, "rb") as file:
            return file.read(4) == b"PAR1"
    except FileNotFoundError as error:
        raise ResourceNotFoundError(
            f"The feature file must be there. Received: {os.fspath(path)!r}, which is not."
        ) from error


def _told_metadata(
    store: FeatureStore,
    config: str | os.PathLike[str] | ElmoConfig | Checkpoint | None,
    layer: Literal["top", "average"] | None,
) -> FeatureMetadata:
    """The metadata of a file by AllenNLP itself, by what the user says of it."""
    has_all = len(store.token_shape) == 2
    if config is None or (layer is None and not has_all):
        missing = "`config` (--config)" if config is None else '`layer="top"` or `layer="average"` (--layer)'
        raise FeatureStoreError(
            f"A feature file must say how it was made. Received: {str(store.path)!r}, which does not, as AllenNLP's "
            f"own files do not. Say it yourself: give {missing}."
        )
    checkpoint = config if isinstance(config, Checkpoint) else Checkpoint.open(config)
    metadata = FeatureMetadata(
        fingerprint=checkpoint.fingerprint,
        state="carry",  # AllenNLP knows nothing else
        precision="float32",
        layers="all" if has_all or layer is None else layer,
        dtype="float16" if store.dtype == np.float16 else "float32",
        tokenization="whitespace",
        num_layers=checkpoint.num_layers,
        output_dim=checkpoint.output_dim,
    )
    if metadata.token_shape != store.token_shape:
        raise FeatureStoreError(
            "`config` must name the weights that the features were made with. Received: features of the shape "
            f"{store.token_shape} in {str(store.path)!r}, where those of the model are {metadata.token_shape}."
        )
    return metadata


def _stored(store: FeatureStore) -> Iterator[tuple[np.ndarray, str | None]]:
    """The sentences of a store, read in blocks."""
    ends = np.cumsum(store.lengths)
    start = 0
    while start < len(store):
        most = (ends[start - 1] if start else 0) + BLOCK_TOKENS
        stop = min(max(int(np.searchsorted(ends, most, "right")), start + 1), start + BLOCK_SENTENCES)
        features, lengths = store.read(start, stop)
        for index, part in zip(range(start, stop), np.split(features, np.cumsum(lengths)[:-1]), strict=True):
            yield part, store.sentence(index)
        start = stop
