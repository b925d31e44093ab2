"""Features as Parquet: what goes in comes out, from files and from folders of shards, and what is damaged is told."""

import json
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from features.samples import LENGTHS, SENTENCES, features_of, metadata_of
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import FeatureStoreError, InputValueError, MissingDependencyError, ResourceNotFoundError
from bridge.features import parquet
from bridge.features.metadata import FeatureMetadata
from bridge.features.parquet import ParquetWriter, features_column, features_table, read_parquet
from bridge.features.parquet_reader import Row


def write(path: Path, metadata: FeatureMetadata | None = None, **arguments: Any) -> list[np.ndarray]:
    metadata = metadata_of() if metadata is None else metadata
    features = features_of(metadata)
    with ParquetWriter(path, metadata, **arguments) as writer:
        for values, sentence in zip(features, SENTENCES, strict=True):
            writer.append(values, sentence)
    return features


def write_shard(path: Path, ids: list[int], metadata: FeatureMetadata | None = None, **changes: Any) -> None:
    """The sentences of a corpus that have these numbers: `2 + id % 3` tokens of the value `id`."""
    metadata = metadata_of() if metadata is None else metadata
    features = [np.full((2 + number % 3, *metadata.token_shape), number, metadata.dtype) for number in ids]
    table = features_table(ids, [f"sentence {number}" for number in ids], features, metadata)
    for name, column in changes.items():
        table = table.set_column(table.schema.get_field_index(name), name, column)
    pq.write_table(table, path, write_page_checksum=True, row_group_size=3)


def check_corpus(path: Path, sentences: int) -> FeatureMetadata:
    """Checks that all sentences of `write_shard` come, in order."""
    metadata, rows = read_parquet(path)
    number = -1
    for number, (sentence_id, sentence, features) in enumerate(rows):
        assert (sentence_id, sentence) == (number, f"sentence {number}")
        assert features.shape == (2 + number % 3, 3, 4)
        assert (features == number).all()
    assert number + 1 == metadata.sentences == sentences
    return metadata


@given(
    lengths=st.lists(st.integers(0, 9), max_size=12),
    dtype=st.sampled_from(["float32", "float16"]),
    layers=st.sampled_from(["all", "top"]),
    compression=st.sampled_from([None, "gzip", "zstd", "snappy", "lz4"]),
    data=st.data(),
)
def test_round_trip(
    tmp_path_factory: pytest.TempPathFactory,
    lengths: list[int],
    dtype: str,
    layers: str,
    compression: Any,
    data: st.DataObject,
) -> None:
    path = tmp_path_factory.mktemp("parquet") / "f.parquet"
    metadata = metadata_of(dtype=dtype, layers=layers)
    features = features_of(metadata, lengths)
    sentences = [data.draw(st.none() | st.text(st.characters(codec="utf-8"))) for _ in lengths]
    with ParquetWriter(path, metadata, compression) as writer:
        for values, sentence in zip(features, sentences, strict=True):
            writer.append(values, sentence)
    read, rows = read_parquet(path)
    assert read == writer.metadata
    assert (read.sentences, read.tokens, read.empty_sentences) == (len(lengths), sum(lengths), lengths.count(0))
    found = list(rows)
    assert [(row.sentence_id, row.sentence) for row in found] == list(enumerate(sentences))
    for row, values in zip(found, features, strict=True):
        assert row.features.dtype == dtype
        np.testing.assert_array_equal(row.features, values)


@pytest.mark.parametrize(("dtype", "number"), [("float32", pa.float32()), ("float16", pa.float16())])
def test_what_other_readers_see(dtype: str, number: pa.DataType, tmp_path: Path) -> None:
    metadata = metadata_of(dtype=dtype)
    features = write(tmp_path / "f.parquet", metadata)
    table = pq.read_table(tmp_path / "f.parquet")
    assert table.schema.names == ["sentence_id", "sentence", "timesteps", "features"]
    assert [table.schema.field(name).type for name in table.schema.names[:3]] == [pa.int64(), pa.string(), pa.int32()]
    assert table.schema.field("features").type.value_type == number
    assert table["sentence_id"].to_pylist() == list(range(len(LENGTHS)))
    assert table["sentence"].to_pylist() == SENTENCES
    assert table["timesteps"].to_pylist() == LENGTHS
    for cell, values in zip(table["features"], features, strict=True):
        np.testing.assert_array_equal(np.asarray(cell.values), values.reshape(-1))
    assert json.loads(table.schema.metadata[b"elmo_bridge"])["tokens"] == sum(LENGTHS)


def test_row_groups_are_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "ROW_GROUP_TOKENS", 5)
    write(tmp_path / "f.parquet")
    file = pq.ParquetFile(tmp_path / "f.parquet")
    assert [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)] == [3, 1, 3]
    assert [row.sentence for row in read_parquet(tmp_path / "f.parquet")[1]] == SENTENCES


def test_lone_surrogates_are_left_out(tmp_path: Path) -> None:
    with ParquetWriter(tmp_path / "f.parquet", metadata_of()) as writer:
        writer.append(np.zeros((1, 3, 4), np.float32), "a\ud800b")
    assert [row.sentence for row in read_parquet(tmp_path / "f.parquet")[1]] == ["ab"]


def test_the_caller_may_go_on_using_the_array(tmp_path: Path) -> None:
    values = np.zeros((2, 3, 4), np.float32)
    with ParquetWriter(tmp_path / "f.parquet", metadata_of()) as writer:
        for number in range(5):
            values[:] = number
            writer.append(values)
    assert [row.features.max() for row in read_parquet(tmp_path / "f.parquet")[1]] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    "shards",
    [
        [[0, 1, 2, 3, 4], [5], [6, 7, 8, 9]],
        [[5, 6, 7, 8, 9], [0, 1, 2, 3, 4]],
        [[0, 2, 4, 6, 8], [1, 3, 5, 7, 9]],
        [[9, 3, 0, 5], [4, 8, 1], [], [2, 7, 6]],
        [[], []],
    ],
    ids=str,
)
def test_shards_in_any_order(shards: list[list[int]], tmp_path: Path) -> None:
    for part, ids in enumerate(shards):
        write_shard(tmp_path / f"part-{part}.parquet", ids, metadata_of(long_tokens=2))
    (tmp_path / "notes.txt").write_text("other files are passed over")
    metadata = check_corpus(tmp_path, sum(map(len, shards)))
    assert metadata.tokens == sum(2 + number % 3 for ids in shards for number in ids)
    assert metadata.long_tokens == 2 * len(shards)


def test_more_shards_than_files_can_be_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for part in range(40):
        write_shard(tmp_path / f"part-{part:05}.parquet", [2 * part, 2 * part + 1])
    open_files = 0
    most_open = 0
    original = pq.ParquetFile

    class Counted(original):  # type: ignore[misc, valid-type]
        def __enter__(self) -> Any:
            nonlocal open_files, most_open
            open_files += 1
            most_open = max(most_open, open_files)
            return super().__enter__()

        def __exit__(self, *args: object) -> None:
            nonlocal open_files
            open_files -= 1
            super().__exit__(*args)

    monkeypatch.setattr(pq, "ParquetFile", Counted)
    check_corpus(tmp_path, 80)
    assert (open_files, most_open) == (0, 1)


@pytest.mark.parametrize(
    ("shards", "message"),
    [
        ([[0, 1, 3]], "sentence 2 is missing"),
        ([[0, 1], [3]], "sentence 2 is missing"),
        ([[1, 2]], "sentence 0 is missing"),
        ([[0, 1], [1, 2]], "sentence 1 is there twice"),
        ([[0, 0]], "sentence 0 is there twice"),
        ([[-1, 0]], "sentence 0 is missing"),
    ],
)
def test_missing_and_double_sentences(shards: list[list[int]], message: str, tmp_path: Path) -> None:
    for part, ids in enumerate(shards):
        write_shard(tmp_path / f"part-{part}.parquet", ids)
    with pytest.raises(FeatureStoreError, match=message):
        read_parquet(tmp_path)


def test_a_manifest_knows_the_last_shard(tmp_path: Path) -> None:
    write_shard(tmp_path / "part-0.parquet", [0, 1, 2])
    write_shard(tmp_path / "part-1.parquet", [3, 4])
    whole = metadata_of(sentences=5, tokens=14, skipped_lines=3)
    (tmp_path / "_run.json").write_text("{}")
    with pytest.raises(FeatureStoreError, match=r"must be finished.*resume"):
        read_parquet(tmp_path)
    manifest = {"format": 1, "parts": 2, "metadata": json.loads(whole.to_json())}
    (tmp_path / "_manifest.json").write_text(json.dumps(manifest))
    assert check_corpus(tmp_path, 5) == whole
    (tmp_path / "part-1.parquet").unlink()
    with pytest.raises(FeatureStoreError, match="3 sentences of 9 tokens are there, of 5 of 14"):
        read_parquet(tmp_path)
    for text in ("{", "[]", "{}"):
        (tmp_path / "_manifest.json").write_text(text)
        with pytest.raises(FeatureStoreError, match=r"_manifest\.json"):
            read_parquet(tmp_path)


def test_shards_of_two_runs(tmp_path: Path) -> None:
    write_shard(tmp_path / "part-0.parquet", [0, 1])
    write_shard(tmp_path / "part-1.parquet", [2], metadata_of(state="warm"))
    with pytest.raises(FeatureStoreError, match=r"must be of one run.*part-1\.parquet"):
        read_parquet(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sentence_id": pa.array([0, None])}, "'sentence_id' or 'timesteps' has nulls"),
        ({"timesteps": pa.array([2, None], pa.int32())}, "'sentence_id' or 'timesteps' has nulls"),
        ({"timesteps": pa.array([3, 2], pa.int32())}, "sentence 0 has 24 numbers"),
        ({"timesteps": pa.array([-2, 7], pa.int32())}, "sentence 0 has 24 numbers"),
        ({"features": pa.array([[1.0] * 24, None], pa.list_(pa.float32()))}, "'features' has nulls"),
        ({"features": pa.array([[1.0] * 24, [None] * 36], pa.list_(pa.float32()))}, "'features' has nulls"),
        ({"features": pa.array([[1.0] * 24, [1.0] * 36])}, "another type"),
        ({"sentence_id": pa.array([0, 1], pa.int32())}, "another type"),
        ({"sentence": pa.array([0, 1])}, "another type"),
    ],
    ids=map(str, range(9)),  # an array's own text has its address
)
def test_other_columns(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    write_shard(tmp_path / "f.parquet", [0, 1], **changes)
    with pytest.raises(FeatureStoreError, match=message):
        list(read_parquet(tmp_path / "f.parquet")[1])


def test_other_files(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1]}), tmp_path / "a.parquet")
    with pytest.raises(FeatureStoreError, match="must have the columns sentence_id"):
        read_parquet(tmp_path / "a.parquet")
    with pytest.raises(FeatureStoreError, match=r"must have shards `part-\*\.parquet`"):
        read_parquet(tmp_path)
    with pytest.raises(ResourceNotFoundError):
        read_parquet(tmp_path / "b.parquet")
    (tmp_path / "c.parquet").write_text("text")
    with pytest.raises(FeatureStoreError, match="the schema can't be read"):
        read_parquet(tmp_path / "c.parquet")


@pytest.mark.parametrize("compression", [None, "gzip"])
def test_flipped_bits_of_the_data(compression: Any, tmp_path: Path) -> None:
    """Their pages have checksums. What comes before a page, and the footer, have none."""
    path = tmp_path / "f.parquet"
    write(path, compression=compression)

    def contents() -> list[tuple[int, str | None, bytes]]:
        return [(row.sentence_id, row.sentence, row.features.tobytes()) for row in read_parquet(path)[1]]

    sound, data = contents(), path.read_bytes()
    columns = [pq.ParquetFile(path).metadata.row_group(0).column(column) for column in range(4)]
    ends = [column.data_page_offset + column.total_compressed_size for column in columns]
    assert sum(column.total_compressed_size for column in columns) > 600
    rng = random.Random(0)
    refused = 0
    # The last 30 bytes of a column are those of its page.
    for place in [end - 1 - back for end in ends for back in range(30)]:
        path.write_bytes(data[:place] + bytes([data[place] ^ 1 << rng.randrange(8)]) + data[place + 1 :])
        with pytest.raises(FeatureStoreError, match=r"f\.parquet"):
            contents()
        refused += 1
    assert refused == 120
    for _ in range(150):
        place = rng.randrange(ends[-1])
        path.write_bytes(data[:place] + bytes([data[place] ^ 1 << rng.randrange(8)]) + data[place + 1 :])
        try:
            assert contents() == sound
        except FeatureStoreError:
            refused += 1
    assert refused > 200


def test_truncated_files(tmp_path: Path) -> None:
    path = tmp_path / "f.parquet"
    write(path)
    data = path.read_bytes()
    for size in range(0, len(data), 23):
        path.write_bytes(data[:size])
        with pytest.raises(FeatureStoreError, match=r"f\.parquet"):
            read_parquet(path)


def test_a_file_that_changes_while_it_is_read(tmp_path: Path) -> None:
    write_shard(tmp_path / "part-0.parquet", [0, 1])
    write_shard(tmp_path / "part-1.parquet", [2, 3])
    rows = read_parquet(tmp_path)[1]
    assert next(rows).sentence_id == 0
    write_shard(tmp_path / "part-1.parquet", [0])
    with pytest.raises(FeatureStoreError, match="sentence 2 was there"):
        list(rows)


def test_features_table_counts(tmp_path: Path) -> None:
    metadata = metadata_of(sentences=99, tokens=99, long_tokens=3)
    table = features_table([4, 5], ["a b", None], features_of(metadata, [2, 0]), metadata)
    known = FeatureMetadata.from_json(table.schema.metadata[b"elmo_bridge"], "the table")
    assert known == metadata.with_counts(sentences=2, tokens=2, empty_sentences=1)
    assert table.to_pydict()["sentence"] == ["a b", None]
    with pytest.raises(InputValueError, match="Received: 2, 1 and 1"):
        features_table([1, 2], ["a"], features_of(metadata, [1]), metadata)


def test_more_numbers_than_a_list_can_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    metadata = metadata_of()
    features = features_of(metadata)
    whole = features_column(features, metadata)
    monkeypatch.setattr(parquet, "MAX_LIST_VALUES", 40)
    pieces = features_column(features, metadata)
    assert isinstance(pieces, pa.ChunkedArray)
    assert pieces.to_pylist() == whole.to_pylist()
    with pytest.raises(InputValueError, match=r"40 numbers at most. Received: 17 tokens"):
        features_table(range(7), SENTENCES, features, metadata)


def test_wrong_arguments(tmp_path: Path) -> None:
    with pytest.raises(InputValueError, match='`compression` must be "snappy" or "gzip"'):
        ParquetWriter(tmp_path / "f.parquet", metadata_of(), "lzf")  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "f.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.delitem(sys.modules, "pyarrow.parquet")
    for use in (
        lambda: read_parquet(tmp_path / "f.parquet"),
        lambda: ParquetWriter(tmp_path / "g.parquet", metadata_of()),
        lambda: features_table([], [], [], metadata_of()),
    ):
        with pytest.raises(MissingDependencyError, match=r"elmo-keras-bridge\[parquet\]"):
            use()
    assert [path.name for path in tmp_path.iterdir()] == ["f.parquet"]


def test_rows_are_named(tmp_path: Path) -> None:
    write(tmp_path / "f.parquet")
    row = next(read_parquet(tmp_path / "f.parquet")[1])
    assert isinstance(row, Row)
    assert (row.sentence_id, row.sentence) == (0, "the cat sat")
