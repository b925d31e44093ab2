"""Fuzzing of stored features: writing, opening, indexing, batches and conversion."""

import functools
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from features.samples import LENGTHS, features_of, metadata_of, write_store
from fuzz.fuzzing import SLOW, Entry, fuzz, parametrized
from fuzz.values import anything, arrays, flags, integers, limits, odd_values, scalars, tokens
from hypothesis import strategies as st

from bridge import FeatureStore
from bridge.errors import BridgeError
from bridge.features.batches import BatchPlan
from bridge.features.convert import convert_features


@functools.cache
def sound() -> FeatureStore:
    """A store of 7 sentences, for as long as the process."""
    path = Path(tempfile.mkdtemp(prefix="elmo-fuzz-")) / "f.hdf5"
    write_store(path, layout="packed")
    store = FeatureStore.open(path)
    shutil.rmtree(path.parent)  # it is open
    return store


def create(path: Any = None, values: Any = None, sentence: Any = None, **arguments: Any) -> Any:
    """Writes one sentence, and reads it."""
    with tempfile.TemporaryDirectory() as folder:
        name = Path(folder) / "f.hdf5" if path is None else Path(folder) / path
        with FeatureStore.create(name, metadata_of(), **arguments) as writer:
            writer.append(values, sentence)
        with FeatureStore.open(name) as store:
            return [values.copy() for values in store], list(store.sentences())


def check_created(result: Any, values: Any, sentence: Any = None, **arguments: Any) -> None:
    stored, texts = result
    if arguments.get("use_sentence_keys") and not sentence:
        return
    [received], [text] = stored, texts
    np.testing.assert_array_equal(received, values.astype(np.float32))
    if sentence is not None and not arguments.get("forget_sentences"):
        written = sentence if isinstance(sentence, str) else " ".join(sentence)
        # The packed layout knows no empty sentence that has tokens.
        assert text == (written or (None if arguments.get("layout") == "packed" and len(values) else ""))


def convert(**arguments: Any) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        write_store(Path(folder) / "f.hdf5")
        metadata = convert_features(Path(folder) / "f.hdf5", Path(folder) / "g", **arguments)
        with FeatureStore.open(Path(folder) / "g") as store:
            return metadata, store.read()[0]


def check_converted(result: Any, **_: Any) -> None:
    metadata, features = result
    assert metadata.sentences == len(LENGTHS)
    np.testing.assert_array_equal(features.astype(np.float32), np.concatenate(features_of(metadata_of())))


def check_item(result: Any, index: Any) -> None:
    for values in result if isinstance(index, slice) else [result]:
        assert values.dtype == np.float32
        assert values.shape[1:] == (3, 4)


def check_read(result: Any, **_: Any) -> None:
    features, lengths = result
    assert features.shape == (lengths.sum(), 3, 4)


def check_plan(plan: BatchPlan, lengths: Any, **arguments: Any) -> None:
    if len(lengths) < 1000 and plan.num_shards < 2**40:
        found = [index for batch in plan.batches() for index in batch.tolist()]
        assert len(found) == len(set(found)) == plan.sentences
        assert all(0 <= index < len(lengths) for index in found)


sound_values = st.integers(0, 3).map(lambda length: features_of(metadata_of(), [length])[0])
nasty_sentences = tokens | st.lists(tokens, max_size=3) | scalars
layouts = st.sampled_from(["elmo", "packed", "flat", None])
compressions = st.sampled_from([None, "gzip", "lzf", "zstd", "", 1])
lengths = st.lists(st.integers(-1, 9) | st.integers(0, 9) | st.integers(0, 9), max_size=12) | anything
# Where one that is no slice is given, Python's own TypeError says so, as it does of a list.
bounds = st.none() | st.integers(-9, 9) | st.sampled_from([2**63, -(10**30)])

TABLE = [
    Entry(
        "FeatureStore.create",
        st.fixed_dictionaries(
            {"values": sound_values | arrays() | anything},
            optional={
                "sentence": nasty_sentences,
                "layout": layouts,
                "compression": compressions,
                "use_sentence_keys": flags | scalars,
                "forget_sentences": flags | scalars,
            },
        ),
        create,
        check_created,
        examples=25,
    ),
    Entry(
        "FeatureStore.create of sound values",
        st.fixed_dictionaries(
            {"values": sound_values},
            optional={
                "sentence": tokens | st.lists(tokens, max_size=3),
                "layout": st.sampled_from(["elmo", "packed"]),
                "compression": st.sampled_from([None, "gzip", "lzf"]),
            },
        ),
        create,
        check_created,
        examples=10,
    ),
    Entry(
        "FeatureStore.open",
        st.fixed_dictionaries(
            {"path": tokens | st.sampled_from([".", "/", "/dev/null", "setup.cfg", "\0", "a" * 5000])}
        ),
        FeatureStore.open,
        lambda store, path: None,
        # What the system says of a path, as of `open`.
        documented=(BridgeError, OSError, ValueError),
    ),
    Entry(
        "FeatureStore[index]",
        st.fixed_dictionaries({"index": odd_values | integers | st.integers(-8, 8) | st.builds(slice, bounds, bounds)}),
        lambda index: sound()[index],
        check_item,
        documented=(BridgeError, IndexError),
    ),
    Entry(
        "FeatureStore.read",
        st.fixed_dictionaries({}, optional={"start": st.integers(-9, 9) | st.just(2**63), "stop": bounds}),
        lambda **arguments: sound().read(**arguments),
        check_read,
    ),
    Entry(
        "BatchPlan",
        st.fixed_dictionaries(
            {"lengths": lengths},
            optional=dict.fromkeys(("batch_size", "seed", "num_shards", "shard_index", "pool_tokens"), limits)
            | dict.fromkeys(
                ("shuffle", "bucket_by_length", "drop_remainder", "skip_empty"), flags | flags | odd_values
            ),
        ),
        BatchPlan,
        check_plan,
        documented=(BridgeError, MemoryError),
        examples=25,
    ),
    Entry(
        "convert_features",
        st.fixed_dictionaries(
            {},
            optional={
                "format": st.sampled_from(["hdf5", "hdf5", "csv", 1]),
                "layout": layouts,
                "dtype": st.sampled_from(["float16", "float32", "float64", 0]),
                "compression": compressions,
                "overwrite": flags | scalars,
                "config": st.just("demo") | st.just("nothing"),
                "layer": st.sampled_from(["top", "all", 3]),
            },
        ),
        convert,
        check_converted,
        examples=12,
    ),
]


@parametrized(TABLE)
def test_features(entry: Entry) -> None:
    fuzz(entry)


@pytest.mark.slow
@parametrized(TABLE)
def test_features_for_long(entry: Entry) -> None:
    counts = fuzz(entry, SLOW / 5)
    assert sum(counts.values())
