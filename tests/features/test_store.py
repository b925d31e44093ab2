"""FeatureStore: what goes in comes out, and readers of AllenNLP's own files can read it."""

import json
import pickle
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from features.samples import LENGTHS, SENTENCES, features_of, metadata_of, write_store
from hypothesis import given
from hypothesis import strategies as st

from bridge import Checkpoint
from bridge.errors import FeatureStoreError, InputTypeError, InputValueError, ResourceNotFoundError
from bridge.features import elmo_layout
from bridge.features.store import FeatureStore, Layout
from bridge.resources.config import ElmoConfig

both_layouts = pytest.mark.parametrize("layout", ["elmo", "packed"])
text = st.text(st.characters(codec="utf-8"))


def assert_same(store: FeatureStore, features: list[np.ndarray]) -> None:
    """All ways to read give these features."""
    lengths = [len(values) for values in features]
    assert len(store) == len(features)
    assert store.lengths.dtype == np.int64
    np.testing.assert_array_equal(store.lengths, lengths)
    for index, values in enumerate(features):
        assert store[index].dtype == np.float32
        np.testing.assert_array_equal(store[index], values)
    everything, read_lengths = store.read()
    np.testing.assert_array_equal(read_lengths, lengths)
    assert everything.flags.c_contiguous
    np.testing.assert_array_equal(everything, np.concatenate([everything[:0], *features]))


@given(
    lengths=st.lists(st.integers(0, 9), max_size=12),
    layout=st.sampled_from(["elmo", "packed"]),
    dtype=st.sampled_from(["float32", "float16"]),
    layers=st.sampled_from(["all", "top"]),
    compression=st.sampled_from([None, "gzip", "lzf"]),
    data=st.data(),
)
def test_round_trip(
    tmp_path_factory: pytest.TempPathFactory,
    lengths: list[int],
    layout: str,
    dtype: str,
    layers: str,
    compression: str | None,
    data: st.DataObject,
) -> None:
    path = tmp_path_factory.mktemp("store") / "f.hdf5"
    metadata = metadata_of(dtype=dtype, layers=layers)
    features = features_of(metadata, lengths)
    sentences = [data.draw(text) for _ in lengths]
    write_store(path, metadata, features, sentences, layout=layout, compression=compression)
    with FeatureStore.open(path) as store:
        assert (store.layout, store.path, store.token_shape) == (layout, path, metadata.token_shape)
        assert store.metadata == metadata.with_counts(
            sentences=len(lengths), tokens=sum(lengths), empty_sentences=lengths.count(0)
        )
        assert_same(store, features)
        assert store.read()[0].dtype == dtype
        known = [None if layout == "packed" and not s and n else s for s, n in zip(sentences, lengths, strict=True)]
        assert list(store.sentences()) == known


@both_layouts
def test_many_sentences_of_several_chunks(layout: str, tmp_path: Path) -> None:
    """Beyond the writers' buffers (16 chunks of 256 KiB), in the bulk and one by one, in any order."""
    metadata = metadata_of(output_dim=128)
    rng = np.random.default_rng(1)
    features = features_of(metadata, rng.integers(0, 40, size=300).tolist())
    assert sum(values.nbytes for values in features) > 2 * 16 * 2**18
    write_store(tmp_path / "f.hdf5", metadata, features, [f"s {i}" for i in range(300)], layout=layout)
    with FeatureStore.open(tmp_path / "f.hdf5") as store:
        assert_same(store, features)
        for start in range(0, 300, 37):
            block, lengths = store.read(start, start + 50)
            np.testing.assert_array_equal(block, np.concatenate(features[start : start + 50]))
            assert lengths.tolist() == [len(values) for values in features[start : start + 50]]
        for index in rng.permutation(300).tolist():
            np.testing.assert_array_equal(store[index], features[index])


@pytest.mark.parametrize("layers", ["all", "average"])
def test_what_readers_of_allennlps_files_see(layers: str, tmp_path: Path) -> None:
    metadata = metadata_of(layers=layers)
    features = write_store(tmp_path / "f.hdf5", metadata)
    with h5py.File(tmp_path / "f.hdf5") as file:
        assert set(file) == {*map(str, range(len(LENGTHS))), "sentence_to_index"}
        for index, values in enumerate(features):
            stored = file[str(index)][()]
            assert stored.dtype == np.float32
            np.testing.assert_array_equal(stored, values.transpose(1, 0, 2) if layers == "all" else values)
        assert file["sentence_to_index"].shape == (1,)
        assert h5py.check_string_dtype(file["sentence_to_index"].dtype).length is None
        sentence_to_index = json.loads(file["sentence_to_index"][0])
        assert sentence_to_index == {sentence: str(index) for index, sentence in enumerate(SENTENCES)}
        assert json.loads(file.attrs["elmo_bridge"])["fingerprint"] == metadata.fingerprint


@both_layouts
def test_equal_sentences_and_empty_ones_keep_their_text(layout: str, tmp_path: Path) -> None:
    write_store(tmp_path / "f.hdf5", layout=layout)
    with FeatureStore.open(tmp_path / "f.hdf5") as store:
        assert list(store.sentences()) == SENTENCES
        assert (store.sentence(0), store.sentence(-1), store.has_sentences) == (SENTENCES[0], SENTENCES[-1], True)


@both_layouts
def test_forgotten_and_unknown_sentences(layout: str, tmp_path: Path) -> None:
    write_store(tmp_path / "f.hdf5", layout=layout, forget_sentences=True)
    with FeatureStore.open(tmp_path / "f.hdf5") as store:
        assert list(store.sentences()) == [None] * len(SENTENCES)
        assert not store.has_sentences
    assert b"the cat" not in (tmp_path / "f.hdf5").read_bytes()
    write_store(tmp_path / "g.hdf5", layout=layout, sentences=[None, "", *SENTENCES[2:]])
    with FeatureStore.open(tmp_path / "g.hdf5") as store:
        assert list(store.sentences()) == [None, "", *SENTENCES[2:]]


def test_tokens_are_joined_by_spaces(tmp_path: Path) -> None:
    with FeatureStore.create(tmp_path / "f.hdf5", metadata_of()) as writer:
        writer.append(np.zeros((2, 3, 4), np.float32), ["New York", "sleeps"])
    with FeatureStore.open(tmp_path / "f.hdf5") as store:
        assert store.sentence(0) == "New York sleeps"


def test_lone_surrogates(tmp_path: Path) -> None:
    """JSON Lines can have them, and UTF-8 cannot."""
    cases: list[dict[str, Any]] = [{}, {"layout": "packed"}, {"use_sentence_keys": True}]
    for number, arguments in enumerate(cases):
        path = tmp_path / f"{number}.hdf5"
        write_store(path, features=features_of(metadata_of(), [2]), sentences=["a \ud800"], **arguments)
        with FeatureStore.open(path) as store:
            assert store.sentence(0) == "a \ud800"
            assert len(store[0]) == 2


def test_sentences_are_forgotten_beyond_a_million(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, (name, value) in enumerate((("MAX_REMEMBERED", 6), ("MAX_REMEMBERED_BYTES", 50))):
        with monkeypatch.context() as patch:
            patch.setattr(elmo_layout, name, value)
            features = write_store(tmp_path / f"{number}.hdf5")
        with h5py.File(tmp_path / f"{number}.hdf5") as file:
            assert set(file) == set(map(str, range(len(LENGTHS))))
        with FeatureStore.open(tmp_path / f"{number}.hdf5") as store:
            assert_same(store, features)
            assert store.sentence(0) is None


def test_sentence_keys(tmp_path: Path) -> None:
    """Named by their sentences, in their order; without the empty one, and of equal ones the first."""
    sentences = ["zebra", *SENTENCES, "sentence_to_index", "layout"]
    features = write_store(
        tmp_path / "f.hdf5",
        features=features_of(metadata_of(), [1, *LENGTHS, 2, 2]),
        sentences=sentences,
        use_sentence_keys=True,
    )
    kept = [0, 1, 3, 4, 5, 7, 8, 9]
    with h5py.File(tmp_path / "f.hdf5") as file:
        assert len(file) == len(kept)
        np.testing.assert_array_equal(file["the cat sat"][()], features[1].transpose(1, 0, 2))
        np.testing.assert_array_equal(file["%2E"][()], features[5].transpose(1, 0, 2))
        np.testing.assert_array_equal(file["yes ."][()], features[3].transpose(1, 0, 2))
    with FeatureStore.open(tmp_path / "f.hdf5") as store:
        assert_same(store, [features[index] for index in kept])
        assert list(store.sentences()) == [sentences[index] for index in kept]
        assert store.metadata is not None
        assert (store.metadata.sentences, store.metadata.empty_sentences) == (10, 1)


@given(sentences=st.lists(text.filter(bool), unique=True, max_size=20))
def test_sentence_keys_of_any_text(tmp_path_factory: pytest.TempPathFactory, sentences: list[str]) -> None:
    path = tmp_path_factory.mktemp("keys") / "f.hdf5"
    features = features_of(metadata_of(), [1 + index % 3 for index in range(len(sentences))])
    write_store(path, features=features, sentences=[*sentences], use_sentence_keys=True)
    with FeatureStore.open(path) as store:
        assert list(store.sentences()) == sentences
        assert_same(store, features)


@pytest.mark.parametrize("sentence", [None, ""])
def test_sentence_keys_need_sentences(sentence: str | None, tmp_path: Path) -> None:
    with FeatureStore.create(tmp_path / "f.hdf5", metadata_of(), use_sentence_keys=True) as writer:
        with pytest.raises(InputValueError, match=r"`sentence` must be given .*Received: .* with 2 tokens"):
            writer.append(np.zeros((2, 3, 4), np.float32), sentence)
        writer.append(np.zeros((2, 3, 4), np.float32), "it goes on")
    with FeatureStore.open(tmp_path / "f.hdf5") as store:
        assert list(store.sentences()) == ["it goes on"]


@both_layouts
def test_an_empty_store(layout: str, tmp_path: Path) -> None:
    write_store(tmp_path / "f.hdf5", features=[], sentences=[], layout=layout)
    with FeatureStore.open(tmp_path / "f.hdf5") as store:
        assert_same(store, [])
        assert store.read()[0].shape == (0, 3, 4)
        assert store[:] == []


@both_layouts
def test_indices_are_those_of_lists(layout: str, tmp_path: Path) -> None:
    features = write_store(tmp_path / "f.hdf5", layout=layout)
    with FeatureStore.open(tmp_path / "f.hdf5") as store:
        for index in (-1, -7, 3, np.int64(2), True):
            np.testing.assert_array_equal(store[index], features[index])
        for part in (slice(2, 5), slice(None, None, -2), slice(-3, None), slice(5, 2), slice(0, 99)):
            found = store[part]
            assert len(found) == len(features[part])
            for ours, wanted in zip(found, features[part], strict=True):
                np.testing.assert_array_equal(ours, wanted)
        for index in (7, -8, 10**30):
            with pytest.raises(IndexError, match="7 sentences"):
                store[index]
        for wrong in ("0", 1.0, None):
            with pytest.raises(InputTypeError, match=r"must be an integer or a slice. Received"):
                store[wrong]  # type: ignore[call-overload]
        assert [len(values) for values in store] == LENGTHS
        assert store.read(-2)[1].tolist() == LENGTHS[-2:]
        assert store.read(5, 2)[1].tolist() == []
        with pytest.raises(ValueError, match="read-only"):
            store.lengths[0] = 9


@both_layouts
def test_float16_converts_what_it_can_hold(layout: str, tmp_path: Path) -> None:
    metadata = metadata_of(dtype="float16")
    values = np.full((2, 3, 4), 0.1, np.float32)
    write_store(tmp_path / "f.hdf5", metadata, [values, values.astype(np.float16)], ["a", "b"], layout=layout)
    with FeatureStore.open(tmp_path / "f.hdf5") as store:
        assert (store.dtype, store.read()[0].dtype, store[0].dtype) == (np.float16, np.float16, np.float32)
        np.testing.assert_array_equal(store[0], np.float32(np.float16(0.1)))


@pytest.mark.parametrize(
    ("dtype", "value", "message"),
    [
        ("float16", 65520.0, '65520, which float16 does not have: it ends at 65504.*Use dtype="float32"'),
        ("float16", -1e6, r"1e\+06, which float16"),
        ("float16", np.nan, "NaN or an infinite"),
        ("float32", np.inf, "NaN or an infinite"),
        ("float32", np.nan, "NaN or an infinite"),
    ],
)
@both_layouts
def test_values_that_can_not_be_stored(layout: Layout, dtype: str, value: float, message: str, tmp_path: Path) -> None:
    """Told with the sentence, and as if the call had not been: the store goes on."""
    metadata = metadata_of(dtype=dtype)
    features = features_of(metadata)
    wrong = np.zeros((2, 3, 4), np.float32)
    wrong[1, 2, 3] = value
    with FeatureStore.create(tmp_path / "f.hdf5", metadata, layout=layout) as writer:
        writer.append(features[0], "one")
        with pytest.raises(InputValueError, match=rf"must be finite. Received: {message}") as error:
            writer.append(wrong, ["two", "words"])
        assert "sentence 1 ('two words')" in str(error.value)
        writer.append(features[2], "three")
    with FeatureStore.open(tmp_path / "f.hdf5") as store:
        assert_same(store, [features[0], features[2]])


def test_the_largest_float16(tmp_path: Path) -> None:
    metadata = metadata_of(dtype="float16")
    write_store(tmp_path / "f.hdf5", metadata, [np.full((1, 3, 4), 65519.0, np.float32)], ["a"])
    with FeatureStore.open(tmp_path / "f.hdf5") as store:
        assert (store[0] == 65504).all()


@pytest.mark.parametrize(
    ("features", "kind", "message"),
    [
        (np.zeros((2, 3, 4)), InputTypeError, "float32 or float16. Received: float64"),
        (np.zeros((2, 3, 4), int), InputTypeError, "Received: int64"),
        ([[1.0]], InputTypeError, "Received: list"),
        (np.zeros((2, 4), np.float32), InputValueError, r"\(timesteps, 3, 4\), as of layers=\"all\".*\(2, 4\)"),
        (np.zeros((2, 4, 3), np.float32), InputValueError, r"Received: \(2, 4, 3\), of sentence 0 \('a b'\)"),
    ],
)
def test_features_of_another_form(features: Any, kind: type[Exception], message: str, tmp_path: Path) -> None:
    with FeatureStore.create(tmp_path / "f.hdf5", metadata_of()) as writer:
        with pytest.raises(kind, match=message):
            writer.append(features, "a b")
        with pytest.raises(InputTypeError, match="`sentence` must be a string or a list of tokens"):
            writer.append(np.zeros((2, 3, 4), np.float32), [1, 2])  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layout": "flat"}, '`layout` must be "elmo" or "packed"'),
        ({"compression": "zip"}, '`compression` must be "gzip" or "lzf"'),
        ({"layout": "packed", "use_sentence_keys": True}, "`use_sentence_keys` must come with"),
        ({"forget_sentences": True, "use_sentence_keys": True}, "`use_sentence_keys` must come with"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputValueError, match=message):
        FeatureStore.create(tmp_path / "f.hdf5", metadata_of(), **arguments)
    assert not list(tmp_path.iterdir())


def test_metadata_counts_while_writing(tmp_path: Path) -> None:
    with FeatureStore.create(tmp_path / "f.hdf5", metadata_of(long_tokens=4, skipped_lines=1)) as writer:
        for values, sentence in zip(features_of(metadata_of()), SENTENCES, strict=True):
            writer.append(values, sentence)
        assert len(writer) == len(SENTENCES)
        counts = writer.metadata.model_dump(
            include={"sentences", "tokens", "empty_sentences", "long_tokens", "skipped_lines"}
        )
        assert counts == {
            "sentences": 7,
            "tokens": sum(LENGTHS),
            "empty_sentences": 1,
            "long_tokens": 4,
            "skipped_lines": 1,
        }
        metadata = writer.metadata
    with FeatureStore.open(tmp_path / "f.hdf5") as store:
        assert store.metadata == metadata


def test_the_same_features_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        for layout in ("elmo", "packed"):
            write_store(tmp_path / f"{layout}-{name}", layout=layout)
        time.sleep(1.1 if name == "a" else 0)  # HDF5's clock has seconds
    for layout in ("elmo", "packed"):
        assert (tmp_path / f"{layout}-a").read_bytes() == (tmp_path / f"{layout}-b").read_bytes()


@both_layouts
def test_pickled_stores_open_their_file_again(layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    features = write_store(tmp_path / "f.hdf5", layout=layout)
    monkeypatch.chdir(tmp_path)
    store = FeatureStore.open("f.hdf5")
    monkeypatch.chdir("/")
    pickled = pickle.dumps(store)
    store.close()
    with pickle.loads(pickled) as again:
        assert_same(again, features)
    write_store(tmp_path / "f.hdf5", metadata_of(run="another"), layout=layout, overwrite=True)
    with pytest.raises(FeatureStoreError, match="which is another one now"):
        pickle.loads(pickled)
    (tmp_path / "f.hdf5").unlink()
    with pytest.raises(ResourceNotFoundError):
        pickle.loads(pickled)


@both_layouts
def test_many_threads_read_one_store(layout: str, tmp_path: Path) -> None:
    features = features_of(metadata_of(), [index % 7 for index in range(200)])
    write_store(tmp_path / "f.hdf5", features=features, sentences=[f"s {i}" for i in range(200)], layout=layout)
    with FeatureStore.open(tmp_path / "f.hdf5") as store, ThreadPoolExecutor(8) as threads:

        def check(seed: int) -> None:
            for index in np.random.default_rng(seed).permutation(200).tolist():
                np.testing.assert_array_equal(store[index], features[index])
                assert store.sentence(index) == f"s {index}"

        list(threads.map(check, range(8)))


@both_layouts
def test_config_must_be_that_of_the_features(layout: str, small: ElmoConfig, tmp_path: Path) -> None:
    metadata = metadata_of(fingerprint=Checkpoint.open(small).fingerprint)
    write_store(tmp_path / "f.hdf5", metadata, layout=layout)
    for config in (small, Checkpoint.open(small)):
        FeatureStore.open(tmp_path / "f.hdf5", config=config).close()
    with pytest.raises(FeatureStoreError, match="must be those of the model"):
        FeatureStore.open(tmp_path / "f.hdf5", config="demo")


def test_closed_stores_say_so(tmp_path: Path) -> None:
    write_store(tmp_path / "f.hdf5")
    store = FeatureStore.open(tmp_path / "f.hdf5")
    assert repr(store) == f"FeatureStore({str(tmp_path / 'f.hdf5')!r}, layout='elmo', sentences=7)"
    store.close()
    store.close()
    for use in (lambda: store[0], store.read, lambda: store.sentence(0), lambda: store.lengths, lambda: store[:]):
        with pytest.raises(InputValueError, match=r"must be open to be read. Received: .*closed"):
            use()
