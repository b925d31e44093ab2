"""Features from any format to any other."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest
import typer
from features.samples import SENTENCES, features_of, metadata_of, write_store
from typer.testing import CliRunner

from bridge import Checkpoint
from bridge.cli.convert import convert
from bridge.errors import FeatureStoreError, InputValueError, ResourceNotFoundError
from bridge.features.convert import convert_features
from bridge.features.metadata import FeatureMetadata
from bridge.features.parquet import ParquetWriter, features_table, read_parquet
from bridge.features.store import FeatureStore
from bridge.resources.config import ElmoConfig

FORMS = ["elmo", "packed", "parquet"]


def write(path: Path, form: str, metadata: FeatureMetadata) -> list[np.ndarray]:
    if form != "parquet":
        return write_store(path, metadata, layout=form)
    features = features_of(metadata)
    with ParquetWriter(path, metadata) as writer:
        for values, sentence in zip(features, SENTENCES, strict=True):
            writer.append(values, sentence)
    return features


def read(path: Path, form: str) -> tuple[FeatureMetadata | None, list[str | None], list[np.ndarray]]:
    if form == "parquet":
        metadata, rows = read_parquet(path)
        found = list(rows)
        return metadata, [row.sentence for row in found], [row.features for row in found]
    with FeatureStore.open(path) as store:
        assert store.layout == form
        return store.metadata, list(store.sentences()), store[:]


def arguments_of(form: str) -> dict[str, Any]:
    return {"format": "parquet"} if form == "parquet" else {"format": "hdf5", "layout": form}


@pytest.mark.parametrize("source", FORMS)
@pytest.mark.parametrize("destination", FORMS)
@pytest.mark.parametrize("dtype", [None, "float16"])
def test_any_to_any(source: str, destination: str, dtype: Any, tmp_path: Path) -> None:
    metadata = metadata_of(long_tokens=2, skipped_lines=1)
    features = write(tmp_path / "a", source, metadata)
    returned = convert_features(tmp_path / "a", tmp_path / "b", dtype=dtype, **arguments_of(destination))
    known, sentences, found = read(tmp_path / "b", destination)
    wanted = metadata.with_counts(dtype=dtype or "float32", sentences=7, tokens=17, empty_sentences=1)
    assert known == returned == wanted
    assert sentences == SENTENCES
    for ours, values in zip(found, features, strict=True):
        np.testing.assert_array_equal(ours, values)


@pytest.mark.parametrize("form", FORMS)
def test_there_and_back_gives_the_same_bytes(form: str, tmp_path: Path) -> None:
    write(tmp_path / "a", form, metadata_of())
    other = FORMS[FORMS.index(form) - 1]
    convert_features(tmp_path / "a", tmp_path / "b", **arguments_of(other))
    convert_features(tmp_path / "b", tmp_path / "c", **arguments_of(form))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "c").read_bytes()


def test_the_suffix_says_the_format(tmp_path: Path) -> None:
    write_store(tmp_path / "a.hdf5")
    convert_features(tmp_path / "a.hdf5", tmp_path / "b.parquet", compression="zstd")
    assert pq.ParquetFile(tmp_path / "b.parquet").metadata.row_group(0).column(3).compression == "ZSTD"
    convert_features(tmp_path / "b.parquet", tmp_path / "c.h5", compression="lzf")
    with h5py.File(tmp_path / "c.h5") as file:
        assert file["features"].compression == "lzf"


def test_a_folder_of_shards(tmp_path: Path) -> None:
    features = features_of(metadata_of())
    (tmp_path / "shards").mkdir()
    for part, ids in enumerate(([3, 4, 5, 6], [0, 1, 2])):
        table = features_table(ids, [SENTENCES[i] for i in ids], [features[i] for i in ids], metadata_of())
        pq.write_table(table, tmp_path / "shards" / f"part-{part}.parquet")
    convert_features(tmp_path / "shards", tmp_path / "b.hdf5")
    metadata, sentences, found = read(tmp_path / "b.hdf5", "packed")
    assert metadata == metadata_of(sentences=7, tokens=17, empty_sentences=1)
    assert sentences == SENTENCES
    np.testing.assert_array_equal(np.concatenate(found), np.concatenate(features))


def test_sentence_keys_become_lines(tmp_path: Path) -> None:
    write_store(tmp_path / "a", use_sentence_keys=True)
    assert convert_features(tmp_path / "a", tmp_path / "b").sentences == 5
    assert read(tmp_path / "b", "packed")[1] == list(dict.fromkeys(filter(None, SENTENCES)))


@pytest.mark.parametrize("destination", FORMS)
def test_forgotten_sentences_stay_so(destination: str, tmp_path: Path) -> None:
    write_store(tmp_path / "a", forget_sentences=True)
    convert_features(tmp_path / "a", tmp_path / "b", **arguments_of(destination))
    assert read(tmp_path / "b", destination)[1] == [None] * 7


def test_many_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lengths = np.random.default_rng(0).integers(0, 30, size=200).tolist()
    features = features_of(metadata_of(), lengths)
    write_store(tmp_path / "a", features=features, sentences=[f"s {i}" for i in range(200)], layout="packed")
    for tokens, sentences in ((1, 5), (40, 3), (100, 1000)):
        monkeypatch.setattr("bridge.features.convert.BLOCK_TOKENS", tokens)
        monkeypatch.setattr("bridge.features.convert.BLOCK_SENTENCES", sentences)
        convert_features(tmp_path / "a", tmp_path / "b", overwrite=True)
        assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_beyond_float16(tmp_path: Path) -> None:
    write_store(tmp_path / "a", features=[np.full((1, 3, 4), 1e5, np.float32)], sentences=["a b"])
    with pytest.raises(InputValueError, match=r"100000, which float16 does not have.*sentence 0 \('a b'\)"):
        convert_features(tmp_path / "a", tmp_path / "b", dtype="float16")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_over_itself(tmp_path: Path) -> None:
    features = write_store(tmp_path / "a")
    with pytest.raises(InputValueError, match="must not be there yet"):
        convert_features(tmp_path / "a", tmp_path / "a")
    convert_features(tmp_path / "a", tmp_path / "a", overwrite=True)
    np.testing.assert_array_equal(np.concatenate(read(tmp_path / "a", "packed")[2]), np.concatenate(features))


@pytest.mark.parametrize("form", FORMS)
def test_a_damaged_source_leaves_no_file(form: str, tmp_path: Path) -> None:
    features = features_of(metadata_of(), [50] * 20)
    if form == "parquet":
        with ParquetWriter(tmp_path / "a", metadata_of()) as writer:
            for values in features:
                writer.append(values)
    else:
        write_store(tmp_path / "a", features=features, sentences=[f"s {i}" for i in range(20)], layout=form)
    data = bytearray((tmp_path / "a").read_bytes())
    place = data.find(features[11][:, -1].tobytes() if form == "elmo" else features[11].tobytes())
    data[place if place > 0 else len(data) // 2] ^= 1
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(FeatureStoreError):
        convert_features(tmp_path / "a", tmp_path / "b")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("form", FORMS)
def test_config_is_checked(form: str, small: ElmoConfig, tmp_path: Path) -> None:
    write(tmp_path / "a", form, metadata_of(fingerprint=Checkpoint.open(small).fingerprint))
    convert_features(tmp_path / "a", tmp_path / "b", config=small)
    with pytest.raises(FeatureStoreError, match="must be those of the model"):
        convert_features(tmp_path / "a", tmp_path / "c", config="demo")


def test_files_of_allennlp_itself(small: ElmoConfig, tmp_path: Path) -> None:
    """They do not say how they were made: the user does."""
    layers = np.random.default_rng(0).standard_normal((3, 2, 12)).astype(np.float32)
    with h5py.File(tmp_path / "all", "w") as file:
        file["0"] = layers
    with h5py.File(tmp_path / "top", "w") as file:
        file["0"] = layers[2]
    with pytest.raises(FeatureStoreError, match=r"must say how it was made.*`config` \(--config\)"):
        convert_features(tmp_path / "all", tmp_path / "b")
    metadata = convert_features(tmp_path / "all", tmp_path / "b", config=small)
    assert (metadata.fingerprint, metadata.state) == (Checkpoint.open(small).fingerprint, "carry")
    np.testing.assert_array_equal(read(tmp_path / "b", "packed")[2][0], layers.transpose(1, 0, 2))
    with pytest.raises(FeatureStoreError, match=r'`layer="top"`'):
        convert_features(tmp_path / "top", tmp_path / "c", config=small)
    assert convert_features(tmp_path / "top", tmp_path / "c", config=small, layer="top").layers == "top"
    with pytest.raises(FeatureStoreError, match=r"`config` must name .*\(3, 12\).*\(3, 128\)"):
        convert_features(tmp_path / "all", tmp_path / "d", config="demo")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"format": "csv"}, '`format` must be "hdf5" or "parquet"'),
        ({"dtype": "float64"}, '`dtype` must be "float32" or "float16"'),
        ({"layout": "flat"}, "`layout` must be"),
        ({"compression": "zstd"}, '`compression` must be "gzip" or "lzf"'),
        ({"compression": "lzf", "format": "parquet"}, '`compression` must be "snappy"'),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], message: str, tmp_path: Path) -> None:
    write_store(tmp_path / "a")
    with pytest.raises(InputValueError, match=message):
        convert_features(tmp_path / "a", tmp_path / "b", **arguments)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_no_source(tmp_path: Path) -> None:
    for name in ("missing", "missing.parquet"):
        with pytest.raises(ResourceNotFoundError, match="must be there"):
            convert_features(tmp_path / name, tmp_path / "b")


def test_the_command(tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(convert)
    write_store(tmp_path / "a.hdf5")

    def run(*arguments: str) -> Any:
        return CliRunner().invoke(app, arguments)

    done = run(str(tmp_path / "a.hdf5"), str(tmp_path / "b.parquet"), "--dtype", "float16", "--compression", "gzip")
    assert (done.exit_code, done.output) == (0, f"7 sentences, 17 tokens: {tmp_path / 'b.parquet'}\n")
    metadata, sentences, _ = read(tmp_path / "b.parquet", "parquet")
    assert metadata == metadata_of(dtype="float16", sentences=7, tokens=17, empty_sentences=1)
    assert sentences == SENTENCES
    done = run(str(tmp_path / "b.parquet"), str(tmp_path / "c"), "--format", "hdf5", "--layout", "elmo")
    assert done.exit_code == 0
    assert read(tmp_path / "c", "elmo")[1] == SENTENCES
    done = run(str(tmp_path / "a.hdf5"), str(tmp_path / "c"))
    assert isinstance(done.exception, InputValueError)
    assert run(str(tmp_path / "a.hdf5"), str(tmp_path / "c"), "--overwrite").exit_code == 0
    assert read(tmp_path / "c", "packed")[1] == SENTENCES
    assert run(str(tmp_path / "a.hdf5")).exit_code == 2
