"""`FeatureStore.dataset`: the batches of a plan, padded, as Keras takes them."""

import gc
import subprocess
import sys
import threading
import tracemalloc
import weakref
from itertools import chain
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from features.samples import features_of, metadata_of, write_store
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge import ScalarMix
from bridge.errors import InputTypeError, InputValueError
from bridge.features.batches import BatchPlan
from bridge.features.metadata import FeatureMetadata
from bridge.features.store import FeatureStore

LENGTHS = [3, 1, 6, 2, 2, 5, 4, 7, 1, 3, 2]
KINDS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "elmo": ({}, {"layout": "elmo"}),
    "packed": ({}, {"layout": "packed"}),
    "half precision": ({"dtype": "float16"}, {"layout": "packed", "compression": "gzip"}),
    "one layer": ({"layers": "top"}, {"layout": "packed"}),
    "one layer, elmo, half precision": ({"layers": "average", "dtype": "float16"}, {"layout": "elmo"}),
}


def make_store(
    path: Path, lengths: list[int] = LENGTHS, metadata: FeatureMetadata | None = None, layout: str = "packed"
) -> tuple[FeatureStore, list[np.ndarray]]:
    """A store, and what it was written from."""
    metadata = metadata_of() if metadata is None else metadata
    features = features_of(metadata, lengths)
    write_store(path, metadata, features, [None] * len(features), layout=layout)
    return FeatureStore.open(path), features


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return make_store(tmp_path / "features.hdf5")[0]


def padded(arrays: list[np.ndarray]) -> np.ndarray:
    batch = np.zeros((len(arrays), max(1, *map(len, arrays)), *arrays[0].shape[1:]), np.float32)
    for row, array in zip(batch, arrays, strict=True):
        row[: len(array)] = array
    return batch


def assert_batches(dataset: tf.data.Dataset, features: list[np.ndarray], plan: BatchPlan, epoch: int = 0) -> None:
    """The batches are those of the plan's epoch, to the last bit."""
    batches, wanted = list(dataset), list(plan.batches(epoch))
    assert len(batches) == len(wanted) == dataset.cardinality()
    for batch, indices in zip(batches, wanted, strict=True):
        assert batch.dtype == tf.float32
        np.testing.assert_array_equal(batch, padded([features[index] for index in indices]))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shuffle", [False, True])
def test_batches_are_those_of_the_plan(kind: str, shuffle: bool, tmp_path: Path) -> None:
    changes, arguments = KINDS[kind]
    metadata = metadata_of(**changes)
    features = write_store(tmp_path / "f.hdf5", metadata, features_of(metadata, LENGTHS), [None] * 11, **arguments)
    with FeatureStore.open(tmp_path / "f.hdf5") as store:
        wanted: dict[str, Any] = {"batch_size": 3, "shuffle": shuffle, "seed": 5, "pool_tokens": 12}
        dataset = store.dataset(**wanted)
        assert dataset.element_spec == tf.TensorSpec((None, None, *metadata.token_shape), tf.float32)
        for epoch in range(3):
            assert_batches(dataset, features, BatchPlan(LENGTHS, **wanted), epoch)


@pytest.mark.slow
@settings(max_examples=8)
@given(
    lengths=st.lists(st.integers(0, 9), min_size=1, max_size=20),
    arguments=st.fixed_dictionaries(
        {
            "batch_size": st.integers(1, 5),
            "shuffle": st.booleans(),
            "bucket_by_length": st.booleans(),
            "skip_empty": st.booleans(),
            "pool_tokens": st.integers(1, 60),
        }
    ),
)
def test_any_lengths_and_pools(
    lengths: list[int], arguments: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    plan = BatchPlan(lengths, **arguments)
    store, features = make_store(tmp_path_factory.mktemp("any") / "features.hdf5", lengths)
    if len(plan):
        assert_batches(store.dataset(**arguments), features, plan)
    else:
        with pytest.raises(InputValueError, match=r"must have a batch at least. Received: none, of \d+ sentences"):
            store.dataset(**arguments)


def test_long_half_precision_sentences(tmp_path: Path) -> None:
    """Those that TensorFlow casts, subnormal numbers among them."""
    metadata = metadata_of(dtype="float16", output_dim=1024)
    features = features_of(metadata, [20, 1, 12])
    features[0][:, 0] = np.arange(20 * 1024, dtype=np.uint16).reshape(20, 1024).view(np.float16)
    features[2][0] *= np.float16(-1e-4)
    write_store(tmp_path / "f.hdf5", metadata, features, [None] * 3, layout="packed")
    assert_batches(FeatureStore.open(tmp_path / "f.hdf5").dataset(), features, BatchPlan([20, 1, 12]))


def test_without_shuffle_the_order_is_the_files(store: FeatureStore) -> None:
    numbers = [labels.numpy() for _, labels in store.dataset(np.arange(11), batch_size=4)]
    np.testing.assert_array_equal(np.concatenate(numbers), np.arange(11))


@pytest.mark.slow
def test_shards_concatenated_are_the_whole(store: FeatureStore) -> None:
    def numbers(**arguments: Any) -> list[list[int]]:
        shards = [store.dataset(np.arange(11), num_shards=3, shard_index=k, **arguments) for k in range(3)]
        return [np.concatenate([labels for _, labels in shard]).tolist() for shard in shards]

    assert list(chain(*numbers(batch_size=2))) == list(range(11))
    shuffled = numbers(batch_size=2, shuffle=True)
    assert sorted(map(len, shuffled)) == [3, 4, 4]
    assert sorted(chain(*shuffled)) == list(range(11))
    assert list(chain(*shuffled)) != list(range(11))
    # Workers of a strategy read their own shard, all of it.
    policy = store.dataset(num_shards=3).options().experimental_distribute.auto_shard_policy
    assert policy == tf.data.experimental.AutoShardPolicy.OFF


def test_drop_remainder_makes_the_batch_size_static(store: FeatureStore) -> None:
    dataset = store.dataset(np.zeros(11), batch_size=4, drop_remainder=True, with_mask=True)
    inputs, labels = dataset.element_spec
    assert inputs["elmo_features"].shape == (4, None, 3, 4)
    assert inputs["mask"].shape == (4, None)
    assert labels.shape == (4,)
    assert len(dataset) == 2


LABELS: dict[str, tuple[Any, np.ndarray]] = {
    "list": (list(range(11)), np.arange(11)),
    "array": (np.arange(11, dtype="int8"), np.arange(11, dtype="int8")),
    "tensor": (tf.range(11, dtype="float16"), np.arange(11, dtype="float16")),
    "one-hot rows": (np.eye(11, dtype="float32"), np.eye(11, dtype="float32")),
    "flags": ([True, False] * 5 + [True], np.array([True, False] * 5 + [True])),
}


@pytest.mark.parametrize("case", LABELS)
def test_labels_of_sentences(case: str, store: FeatureStore) -> None:
    labels, wanted = LABELS[case]
    arguments: dict[str, Any] = {"batch_size": 3, "shuffle": True, "pool_tokens": 12}
    dataset = store.dataset(labels, **arguments)
    plan = BatchPlan(LENGTHS, **arguments)
    for (_, batch), indices in zip(dataset, plan.batches(0), strict=True):
        assert batch.dtype == wanted.dtype
        np.testing.assert_array_equal(batch, wanted[indices])


TAGS = [[10 * row + column + 1 for column in range(length)] for row, length in enumerate(LENGTHS)]
TOKEN_LABELS: dict[str, Any] = {
    "lists": TAGS,
    "arrays": [np.array(tags, "int32") for tags in TAGS],
    "ragged tensor": tf.ragged.constant(TAGS),
    "column of objects": np.array([*TAGS, None], dtype=object)[:-1],
}


@pytest.mark.parametrize("case", TOKEN_LABELS)
def test_labels_of_tokens(case: str, store: FeatureStore) -> None:
    dataset = store.dataset(TOKEN_LABELS[case], batch_size=3, shuffle=True)
    for (features, batch), indices in zip(
        dataset, BatchPlan(LENGTHS, batch_size=3, shuffle=True).batches(0), strict=True
    ):
        assert batch.shape == features.shape[:2]
        np.testing.assert_array_equal(batch, padded([np.array(TAGS[index]) for index in indices]))


def test_labels_of_tokens_may_be_rows(store: FeatureStore) -> None:
    rows = [[[tag, -tag] for tag in tags] for tags in TAGS]
    _, batch = next(iter(store.dataset(rows, batch_size=2)))
    np.testing.assert_array_equal(batch, padded([np.array(rows[0]), np.array(rows[1])]))


def test_masks(store: FeatureStore) -> None:
    dataset = store.dataset(TAGS, batch_size=4, with_mask=True)
    for number, (inputs, tags, weights) in enumerate(dataset):
        lengths = np.array(LENGTHS[4 * number : 4 * number + 4])
        assert inputs["mask"].dtype == tf.bool
        np.testing.assert_array_equal(inputs["mask"], np.arange(lengths.max()) < lengths[:, None])
        np.testing.assert_array_equal(inputs["mask"], tf.reduce_any(inputs["elmo_features"] != 0, axis=(2, 3)))
        np.testing.assert_array_equal(weights, inputs["mask"].numpy().astype("float32"))
        np.testing.assert_array_equal(tags != 0, inputs["mask"])
    inputs, _ = next(iter(store.dataset(np.zeros(11), with_mask=True)))
    assert set(inputs) == set(next(iter(store.dataset(with_mask=True)))) == {"elmo_features", "mask"}


def simple_head() -> keras.Model:
    layers = [keras.Input((None, 3, 4)), ScalarMix(), keras.layers.Masking(), keras.layers.GlobalAveragePooling1D()]
    return keras.Sequential([*layers, keras.layers.Dense(1)])


@pytest.mark.slow
def test_each_epoch_of_fit_is_the_next_of_the_plan(store: FeatureStore) -> None:
    """Keras makes more iterators than it has epochs: those that it does not use count as nothing."""
    seen: list[list[int]] = []

    def record(numbers: np.ndarray) -> np.ndarray:
        seen.append(numbers.tolist())
        return numbers.astype("float32")

    arguments: dict[str, Any] = {"batch_size": 4, "shuffle": True, "seed": 3}
    dataset = store.dataset(np.arange(11), **arguments, initial_epoch=7)
    recorded = dataset.map(
        lambda features, numbers: (features, tf.ensure_shape(tf.numpy_function(record, [numbers], tf.float32), [None]))
    )
    model = simple_head()
    model.compile("adam", "mse")
    model.fit(recorded, epochs=3, verbose=0, shuffle=False)
    model.evaluate(recorded, verbose=0)
    plan = BatchPlan(LENGTHS, **arguments)
    assert seen == [batch.tolist() for epoch in (7, 8, 9, 10) for batch in plan.batches(epoch)]
    assert len(seen) == 4 * len(plan)


def test_predict_keeps_the_order_and_progress_is_known(store: FeatureStore, capsys: pytest.CaptureFixture[str]) -> None:
    model = simple_head()
    predicted = model.predict(store.dataset(batch_size=4), verbose=2)
    assert "3/3" in capsys.readouterr().out
    alone = [model(store[index][None]).numpy()[0] for index in range(11)]
    np.testing.assert_allclose(predicted, alone, rtol=0, atol=1e-6)


def test_repeated_and_zipped_datasets(store: FeatureStore) -> None:
    """Iterators at the same time have an epoch of their own each."""
    dataset = store.dataset(np.arange(11), batch_size=4, shuffle=True).map(lambda _, numbers: numbers)
    plan = BatchPlan(LENGTHS, batch_size=4, shuffle=True)
    repeated = [batch.numpy().tolist() for batch in dataset.repeat(2)]
    assert repeated == [batch.tolist() for epoch in (0, 1) for batch in plan.batches(epoch)]
    pairs = list(tf.data.Dataset.zip(dataset, dataset))
    for side in (0, 1):
        epoch = [pair[side].numpy().tolist() for pair in pairs]
        assert epoch in [[batch.tolist() for batch in plan.batches(number)] for number in (2, 3)]
    assert [pair[0].numpy().tolist() for pair in pairs] != [pair[1].numpy().tolist() for pair in pairs]


@pytest.mark.slow
def test_a_dataset_made_inside_another(store: FeatureStore) -> None:
    """Its Python object is gone when it is read."""
    nested = tf.data.Dataset.range(2).flat_map(lambda _: store.dataset(np.arange(11)).map(lambda _, numbers: numbers))
    gc.collect()
    assert np.concatenate(list(nested)).tolist() == [*range(11)] * 2


def test_what_was_given_out_never_changes(tmp_path: Path) -> None:
    """Batches are made in used memory, which must be nobody's."""
    store, features = make_store(tmp_path / "features.hdf5", [4] * 60)
    dataset = store.dataset(batch_size=2, pool_tokens=16)
    tensors, arrays, views = [], [], []
    for number, batch in enumerate(dataset):
        tensors.append(batch if number % 3 == 0 else None)
        arrays.append(batch.numpy() if number % 3 == 1 else None)
        views.append(batch.numpy()[1, 1:3].T[1:] if number % 3 == 2 else None)
    del batch
    for _ in range(3):
        for _ in dataset:
            pass
    for number in range(30):
        wanted = np.stack(features[2 * number : 2 * number + 2])
        if number % 3 == 2:
            np.testing.assert_array_equal(views[number], wanted[1, 1:3].T[1:])
        else:
            np.testing.assert_array_equal([tensors, arrays][number % 3][number], wanted)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_store(tmp_path: Path) -> None:
    metadata = metadata_of(output_dim=256)  # 3 KiB a token
    peaks = []
    for sentences in (400, 1600):
        path = tmp_path / f"{sentences}.hdf5"
        features = np.ones((10, 3, 256), np.float32)
        with FeatureStore.create(path, metadata, layout="packed") as writer:
            for _ in range(sentences):
                writer.append(features)
        store = FeatureStore.open(path)
        dataset = store.dataset(batch_size=8, shuffle=True, pool_tokens=500)
        tracemalloc.start()
        for _ in dataset:
            pass
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # Two or three pools of 1.5 MB and some batches of 0.25 MB, of stores of 12 and 49 MB.
    assert all(3e6 < peak < 7e6 for peak in peaks)


@pytest.mark.slow
def test_nothing_is_left_of_a_dataset_that_is_not_read_to_its_end(tmp_path: Path) -> None:
    store, _ = make_store(tmp_path / "features.hdf5", [4] * 60)
    dataset = store.dataset(batch_size=2, pool_tokens=16)
    threads = threading.active_count()
    for _ in range(20):
        next(iter(dataset))
    assert threading.active_count() <= threads
    alive = weakref.ref(store)
    del dataset, store
    gc.collect()
    assert alive() is None


@pytest.mark.slow
def test_what_is_imported() -> None:
    code = """
import sys
import bridge.features.batches, bridge.features.store
assert "tensorflow" not in sys.modules
import bridge.features.dataset
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_files_of_other_floats(tmp_path: Path) -> None:
    """AllenNLP's own files, changed by others."""
    features = features_of(metadata_of(), [2, 3])
    for dtype in (">f4", "<f8", ">f2"):
        path = tmp_path / f"{dtype[1:]}{dtype[0] == '>'}.hdf5"
        with h5py.File(path, "w") as file:
            for number, array in enumerate(features):
                file[str(number)] = array.transpose(1, 0, 2).astype(dtype)
        dataset = FeatureStore.open(path).dataset()
        assert_batches(dataset, features, BatchPlan([2, 3]))


def test_a_damaged_file_ends_the_iteration(tmp_path: Path) -> None:
    path = tmp_path / "features.hdf5"
    features = write_store(path, features=features_of(metadata_of(), LENGTHS), sentences=[None] * 11, layout="packed")
    data, stored = path.read_bytes(), np.concatenate(features).tobytes()
    place = data.index(stored) + len(stored) // 2
    path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
    with pytest.raises(tf.errors.OpError, match=r"FeatureStoreError: [^\n]*features\.hdf5.*'features'"):
        list(FeatureStore.open(path).dataset())


def test_a_closed_store_says_so(store: FeatureStore) -> None:
    dataset = store.dataset()
    store.close()
    with pytest.raises(tf.errors.OpError, match="A store must be open to be read"):
        list(dataset)


def test_sentences_without_tokens(tmp_path: Path) -> None:
    store, features = make_store(tmp_path / "features.hdf5", [2, 0, 3, 0, 0, 1])
    assert_batches(store.dataset(batch_size=4), features, BatchPlan(store.lengths, batch_size=4))
    numbers = np.arange(6)
    message = r"`skip_empty` must be given .* Received: 3 such sentences, the first is number 1. Use `skip_empty=True`"
    with pytest.raises(InputValueError, match=message):
        store.dataset(numbers)
    for skip_empty, wanted in ((True, [0, 2, 5]), (False, [0, 1, 2, 3, 4, 5])):
        [(batch, labels)] = store.dataset(numbers, skip_empty=skip_empty)
        assert labels.numpy().tolist() == wanted
        np.testing.assert_array_equal(batch, padded([features[index] for index in wanted]))
    [(_, tags)] = store.dataset([[1, 2], [], [3, 4, 5], [], [], [6]], skip_empty=False)
    np.testing.assert_array_equal(tags, [[1, 2, 0], [0, 0, 0], [3, 4, 5], [0, 0, 0], [0, 0, 0], [6, 0, 0]])


def test_a_batch_of_nothing_has_a_timestep(tmp_path: Path) -> None:
    store, _ = make_store(tmp_path / "features.hdf5", [0, 0])
    [batch] = store.dataset()
    np.testing.assert_array_equal(batch, np.zeros((2, 1, 3, 4)))
    assert np.isfinite(keras.layers.LSTM(2)(ScalarMix()(batch))).all()


RAGGED = [[1, 2], [3]]
WRONG: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "too few": ({"labels": [1, 2]}, InputValueError, "`labels` must be .* Received: 2 for 11 sentences"),
    "text": ({"labels": "labels.txt"}, InputTypeError, "`labels` must be .* Received: 'labels.txt' of type str"),
    "names": ({"labels": ["praise"] * 11}, InputTypeError, r"such as \['praise'\]. Give indices: `\[names.index"),
    "names of tags": ({"labels": [["O"] * n for n in LENGTHS]}, InputTypeError, "entries of dtype <U1"),
    "missing": ({"labels": [None] * 11}, InputTypeError, "entries of dtype object"),
    "mixed": ({"labels": [*TAGS[:10], 3]}, InputTypeError, "Received: both, 3 of type int for sentence 10"),
    "tags too few": ({"labels": [*TAGS[:10], [1]]}, InputValueError, "Received: 1 for the 2 tokens of sentence 10"),
    "one-hot lists": ({"labels": [[0, 1]] * 11}, InputValueError, r"one-hot rows, make them one array: `np.array\("),
    "ragged rows": ({"labels": [[RAGGED[0]] * n for n in LENGTHS[:10]] + [RAGGED]}, InputValueError, "several shapes"),
    "generator": ({"labels": (n for n in LENGTHS)}, InputTypeError, "of type generator"),
    "mask": ({"with_mask": "yes"}, InputTypeError, "`with_mask` must be True or False"),
    "epoch": ({"initial_epoch": -1}, InputValueError, "`initial_epoch` must be at least 0"),
    "skip": ({"skip_empty": 1}, InputTypeError, "`skip_empty` must be True or False"),
    "batch": ({"batch_size": 0}, InputValueError, "`batch_size` must be at least 1"),
    "nothing left": (
        {"batch_size": 12, "drop_remainder": True},
        InputValueError,
        "a batch at least. .*of 11 sentences",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_arguments(case: str, store: FeatureStore) -> None:
    arguments, error, text = WRONG[case]
    with pytest.raises(error, match=text):
        store.dataset(**arguments)
