"""Reading features from Parquet, a file or a folder of shards: `read_parquet`."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bridge.errors import FeatureStoreError, ResourceNotFoundError
from bridge.features.hdf5_files import damage, unusable
from bridge.features.metadata import FeatureMetadata
from bridge.optional import require

EXTRA = "parquet"
METADATA_KEY = b"elmo_bridge"
# Of a folder: the first while its run is not finished, the second when it is.
RUN, MANIFEST = "_run.json", "_manifest.json"
COUNTS = ("sentences", "tokens", "empty_sentences", "long_tokens", "skipped_lines")
COLUMNS = ("sentence_id", "sentence", "timesteps", "features")
# Sentences that are decoded at a time, and bytes that are read at a time.
BATCH_SENTENCES = 256
BUFFER_BYTES = 1 << 20


class Row(NamedTuple):
    """A sentence of a Parquet file: its features are `(timesteps, *token_shape)` in the dtype of the file."""

    sentence_id: int
    sentence: str | None
    features: np.ndarray


def read_parquet(path: str | os.PathLike[str]) -> tuple[FeatureMetadata, Iterator[Row]]:
    """Reads features in the order of the corpus, a few at a time.

    Args:
        path: a Parquet file, or a folder of shards `part-*.parquet`.

    Returns:
        The metadata of the whole, and an iterator over `(sentence_id, sentence, features)` by rising `sentence_id`.

    Raises:
        MissingDependencyError: pyarrow is not installed.
        ResourceNotFoundError: the file is not there.
        FeatureStoreError: a file is damaged or holds something else, a sentence is missing or is there twice, or
            shards are of different runs. The iterator raises it too.
    """
    require("pyarrow", EXTRA)
    path = Path(path)
    parts = [_Part(file) for file in _files(path)]
    metadata = _metadata_of(path, parts)
    owners = _owners(path, parts, metadata)
    return metadata, _in_order(parts, owners)


class _Part:
    """A Parquet file.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with damage(str(path), "the schema"), self._open() as file:
            self._columns = {field.name: field.type for field in file.schema_arrow}
            text = (file.metadata.metadata or {}).get(METADATA_KEY)
        if text is None or not set(COLUMNS) <= set(self._columns):
            raise FeatureStoreError(
                f"A Parquet file of features must have the columns {', '.join(COLUMNS)} and metadata. Received: "
                f"{str(path)!r} with the columns {', '.join(self._columns)}. Name one that elmo-bridge made."
            )
        self.metadata = FeatureMetadata.from_json(text, repr(str(path)))
        arrow = require("pyarrow", EXTRA)
        number = arrow.float32() if self.metadata.dtype == "float32" else arrow.float16()
        wanted = {"sentence_id": arrow.int64(), "sentence": arrow.string(), "timesteps": arrow.int32()}
        types = {name: self._columns[name] for name in COLUMNS}
        if {**types, **wanted} != types or getattr(types["features"], "value_type", None) != number:
            raise unusable(str(path), "a column", f"has another type than it was written with: {types}")

    def ids_and_lengths(self) -> tuple[np.ndarray, np.ndarray]:
        """`sentence_id` and `timesteps` of every row."""
        with damage(str(self.path), "the column 'sentence_id' or 'timesteps'"), self._open() as file:
            table = file.read(["sentence_id", "timesteps"], use_threads=False)
            if any(column.null_count for column in table.columns):
                raise unusable(str(self.path), "the column 'sentence_id' or 'timesteps'", "has nulls")
            return tuple(column.to_numpy() for column in table.columns)

    def rows(self) -> Iterator[Row]:
        """All rows in the order of the file."""
        shape = self.metadata.token_shape
        with damage(str(self.path), "a column"), self._open() as file:
            for batch in file.iter_batches(BATCH_SENTENCES, columns=list(COLUMNS), use_threads=False):
                ids, sentences, lengths, lists = (batch.column(name) for name in COLUMNS)
                values, ends = lists.values, lists.offsets.to_numpy()
                if lists.null_count or values.null_count:
                    raise unusable(str(self.path), "the column 'features'", "has nulls")
                numbers = values.to_numpy()
                for row, (number, sentence, length) in enumerate(
                    zip(ids.to_pylist(), sentences.to_pylist(), lengths.to_pylist(), strict=True)
                ):
                    features = numbers[ends[row] : ends[row + 1]]
                    if features.size != length * int(np.prod(shape)):
                        raise unusable(str(self.path), f"sentence {number}", f"has {features.size} numbers")
                    yield Row(number, sentence, features.reshape(length, *shape))

    def _open(self) -> Any:
        return require("pyarrow.parquet", EXTRA).ParquetFile(
            self.path, page_checksum_verification=True, pre_buffer=False, buffer_size=BUFFER_BYTES
        )


def _files(path: Path) -> list[Path]:
    if not path.exists():
        raise ResourceNotFoundError(f"The feature file must be there. Received: {str(path)!r}, which is not.")
    files = sorted(path.glob("part-*.parquet")) if path.is_dir() else [path]
    if path.is_dir() and (path / RUN).exists() and not (path / MANIFEST).exists():
        raise FeatureStoreError(
            f"A folder of features must be finished. Received: {str(path)!r}, which is in the works. Finish its run "
            "with `resume` (--resume)."
        )
    if not files:
        raise FeatureStoreError(
            f"A folder of features must have shards `part-*.parquet`. Received: {str(path)!r}, which has none."
        )
    return files


def _metadata_of(path: Path, parts: list[_Part]) -> FeatureMetadata:
    """That of the whole: a folder's manifest has it, or else it is made of that of all parts."""
    counts = {name: sum(getattr(part.metadata, name) for part in parts) for name in COUNTS}
    metadata = parts[0].metadata.with_counts(**counts)
    if path.is_dir() and (path / MANIFEST).exists():
        with damage(str(path), f"the file {MANIFEST}"):
            text = json.dumps(json.loads((path / MANIFEST).read_text(encoding="utf-8"))["metadata"])
        metadata = FeatureMetadata.from_json(text, repr(str(path / MANIFEST)))
    # A run may go on with newer packages.
    changing = {*COUNTS, "versions"}
    for part in parts:
        if part.metadata.model_dump(exclude=changing) != metadata.model_dump(exclude=changing):
            raise FeatureStoreError(
                f"Shards in a folder must be of one run. Received: {str(path)!r}, in which the metadata of "
                f"{part.path.name} are not those of {MANIFEST} or of {parts[0].path.name}. Remove what does not belong "
                "there."
            )
    return metadata


def _owners(path: Path, parts: list[_Part], metadata: FeatureMetadata) -> np.ndarray:
    """For every sentence the number of the part that has it."""
    columns = [part.ids_and_lengths() for part in parts]
    ids = np.concatenate([ids for ids, _ in columns])
    tokens = sum(int(lengths.sum(dtype=np.int64)) for _, lengths in columns)
    order = np.argsort(ids, kind="stable")
    wrong = np.flatnonzero(ids[order] != np.arange(len(ids)))
    if len(wrong):
        place = int(wrong[0])
        is_double = place > 0 and ids[order][place] == ids[order][place - 1]
        fault = f"{ids[order][place]} is there twice" if is_double else f"{place} is missing"
        raise unusable(str(path), "sentence", fault)
    if (len(ids), tokens) != (metadata.sentences, metadata.tokens):
        raise unusable(
            str(path),
            f"{len(ids)} sentences of {tokens} tokens",
            f"are there, of {metadata.sentences} of {metadata.tokens}",
        )
    owners = np.repeat(np.arange(len(parts), dtype=np.int32), [len(ids) for ids, _ in columns])
    return owners[order]


def _in_order(parts: list[_Part], owners: np.ndarray) -> Iterator[Row]:
    rows = [part.rows() for part in parts]
    left = np.bincount(owners, minlength=len(parts))
    # Of a part that is not in order itself, what comes too early. Its rows may have any order.
    early: dict[int, Row] = {}
    for number, owner in enumerate(owners.tolist()):
        while number not in early:
            row = next(rows[owner], None)
            if row is None or row.sentence_id < number:
                raise unusable(str(parts[owner].path), f"sentence {number}", "was there, and is not any more")
            early[row.sentence_id] = row
            left[owner] -= 1
            if not left[owner]:
                rows[owner].close()  # a folder may have more files than can be open
        yield early.pop(number)
