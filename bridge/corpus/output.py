"""From segments to the finished file, and what is said of a file that is there already."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from bridge.checks import check_boolean, check_choice
from bridge.corpus.runs import check_parent
from bridge.corpus.segments import Segments
from bridge.errors import InputValueError, OutputError
from bridge.features.metadata import FeatureMetadata
from bridge.features.parquet import ParquetCompression, ParquetWriter, read_parquet
from bridge.features.store import Compression, FeatureStore, Layout
from bridge.whole_file import put_in_place

Format = Literal["hdf5", "parquet"]
# How HDF5 and Parquet files begin.
REPLACEABLE = (b"\x89HDF", b"PAR1")
AnyCompression = Compression | ParquetCompression


@dataclass(frozen=True)
class OutputForm:
    """How features are written: see `embed_corpus`."""

    format: Format
    layout: Layout
    compression: AnyCompression | None
    use_sentence_keys: bool
    forget_sentences: bool

    def __post_init__(self) -> None:
        check_choice("format", self.format, Format)
        check_choice("layout", self.layout, Layout)
        if self.compression is not None:
            check_choice("compression", self.compression, Compression if self.format == "hdf5" else ParquetCompression)
        check_boolean("use_sentence_keys", self.use_sentence_keys)
        check_boolean("forget_sentences", self.forget_sentences)
        if (self.format, self.layout) == ("parquet", "packed"):
            raise InputValueError('`layout` must be left out for Parquet, which has one. Received: "packed".')
        elmo = (self.format, self.layout) == ("hdf5", "elmo")
        if self.use_sentence_keys and not elmo:
            raise InputValueError(
                "`use_sentence_keys` must be left out where sentences have no keys. Received: it, with "
                f'`format="{self.format}"` and `layout="{self.layout}"`. Only HDF5 of the layout "elmo" has them.'
            )

    def write(self, segments: Segments, output: Path, metadata: FeatureMetadata) -> FeatureMetadata:
        """Writes the finished file, under its name when it is whole; returns its metadata, with all counts.

        Raises:
            FeatureStoreError: a segment is damaged.
            OSError: the file can't be written. The segments stay.
        """
        whole = segments.folder / f"whole.{self.format}"
        metadata = metadata.with_counts(**segments.counts())
        # Checked above.
        writer: Any
        compression: Any = self.compression
        if self.format == "parquet":
            writer = ParquetWriter(whole, metadata, compression=compression, overwrite=True)
        else:
            writer = FeatureStore.create(
                whole,
                metadata,
                layout=self.layout,
                compression=compression,
                use_sentence_keys=self.use_sentence_keys,
                forget_sentences=self.forget_sentences and not self.use_sentence_keys,
                overwrite=True,
            )
        with writer:
            for segment in segments:
                parts = np.split(segment.features, np.cumsum(segment.lengths)[:-1])
                for text, features in zip(segment.texts, parts, strict=True):
                    writer.append(features, text)
        put_in_place(whole, output)
        return writer.metadata


def format_of(output: Path) -> Format:
    """The format that a file's suffix says."""
    return "parquet" if output.suffix.lower() == ".parquet" else "hdf5"


def read_metadata(path: Path, form: OutputForm) -> FeatureMetadata | None:
    """What a finished file says of itself.

    Raises:
        InputValueError: it is of another layout.
        FeatureStoreError: it is damaged, or of another format.
    """
    if form.format == "parquet":
        return read_parquet(path)[0]
    with FeatureStore.open(path) as store:
        if store.layout != form.layout:
            raise InputValueError(
                f'`layout` must be that of the output that is finished. Received: "{form.layout}", where {path} has '
                f'"{store.layout}". Turn it into the other with `elmo-bridge convert`, or replace it with `overwrite` '
                "(--overwrite)."
            )
        return store.metadata


def check_output(output: Path, inputs: Sequence[str], *, overwrite: bool) -> None:
    """Raises OutputError unless a file can be made there, in the place of features at most."""
    if output.exists() and any(os.path.exists(file) and output.samefile(file) for file in inputs):
        raise OutputError(f"`output` must not be an input. Received: {str(output)!r} as both. Name another file.")
    if overwrite and output.is_file() and output.stat().st_size:
        with open(output, "rb") as file:
            if not file.read(8).startswith(REPLACEABLE):
                raise OutputError(
                    f"`overwrite` (--overwrite) must be given to replace features. Received: {str(output)!r}, which is "
                    "neither HDF5 nor Parquet. Name another output, or delete that file."
                )
    if output.is_dir():
        raise OutputError(f"`output` must be a file. Received: the folder {str(output)!r}. Name a file in it.")
    check_parent(output)


def check_room(segments: Segments, output: Path) -> None:
    """Raises OutputError where the finished file has no room beside the segments."""
    needed = segments.size()
    free = shutil.disk_usage(output.parent).free
    if free < needed:
        raise OutputError(
            f"`output` must be on a disk with room for the finished file beside {segments.folder}. Received: "
            f"{free / 2**30:.1f} GiB free, and about {needed / 2**30:.1f} GiB needed. Free some, and run the same "
            "command with `resume` (--resume): everything is computed, and only the file is written."
        )
