"""Fuzzing of the Keras side: `to_tensor`, and every layer's constructor, config and call, eager and in a graph."""

import functools
import json
import random
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from fuzz.fuzzing import SLOW, Entry, fuzz, parametrized
from fuzz.mutations import mutated_json
from fuzz.tensors import dense_tensors, inputs, odd_tensors
from fuzz.values import anything, batches, flags, limits, nested_lists, odd_values, scalars, tokens
from hypothesis import strategies as st

from bridge import (
    BridgeError,
    CharacterIds,
    ElmoConfig,
    ElmoEmbedding,
    ScalarMix,
    ScalarMixLogger,
    VocabularyCharacterIds,
    WhitespaceTokenizer,
    batch_to_ids,
    split_head,
    to_tensor,
)
from bridge.errors import InputTypeError

# In a graph values are looked at when it runs, and TensorFlow has one kind of error for that.
IN_GRAPHS = (BridgeError, tf.errors.InvalidArgumentError)


def check_tensor(tensor: Any, values: Any, max_sequence_length: Any = None) -> None:
    assert tf.is_tensor(tensor)
    assert tensor.dtype == tf.string or tensor.dtype.is_integer
    assert tensor.shape.rank in (1, 2, 3, 4)
    if tensor.shape.rank > 1:
        assert 0 not in tensor.shape[1:] or 0 in np.shape(values)
    if max_sequence_length is not None and tensor.shape.rank == 2:
        assert tensor.shape[1] == max_sequence_length
    is_batch = isinstance(values, list) and values and all(isinstance(row, list) for row in values)
    if is_batch and all(isinstance(token, str) for row in values for token in row) and max_sequence_length is None:
        assert tensor.shape[0] == len(values)
        if not any(token == "" for row in values for token in row) and any(values):
            np.testing.assert_array_equal(CharacterIds()(tensor), batch_to_ids(values))


def called(make: Callable[[], Any], graph: bool, *args: Any, **kwargs: Any) -> Any:
    """A layer's result and mask, eager or in a graph."""
    layer = make()

    def run() -> Any:
        result = layer(*args, **kwargs)
        return result, keras.src.backend.get_keras_mask(result) if tf.is_tensor(result) else None

    is_symbolic = any(isinstance(value, keras.KerasTensor) for value in [*args, *kwargs.values()])
    return tf.function(run)() if graph and not is_symbolic else run()


def check_character_ids(result: Any, x: Any, **_: Any) -> None:
    ids, mask = result
    if isinstance(ids, keras.KerasTensor):
        return
    assert ids.dtype == tf.int32
    assert ids.shape == (*np.shape(x), 50)
    assert int(tf.reduce_max(tf.cast(ids, tf.int64), axis=None) if tf.size(ids) else 0) <= 261
    if mask is not None:
        np.testing.assert_array_equal(mask, (ids.numpy() != 0).any(-1))


def check_words(result: Any, x: Any, **_: Any) -> None:
    words, _mask = result
    if isinstance(words, keras.KerasTensor):
        return
    assert words.dtype == tf.string
    assert words.shape[1] >= 1
    sentences = [
        sentence.decode("utf-8", "replace")
        for sentence in np.asarray(x, dtype=object).ravel()
        if isinstance(sentence, bytes)
    ]
    if len(sentences) == words.shape[0] and all("\ufffd" not in sentence for sentence in sentences):
        split = [[word.decode() for word in row if word] for row in words.numpy()]
        assert all(
            received == sentence.split()[: len(received)] for received, sentence in zip(split, sentences, strict=True)
        )


def check_mixture(result: Any, x: Any, **_: Any) -> None:
    mixture, _mask = result
    assert mixture.shape == (*x.shape[:-2], x.shape[-1])


@functools.cache
def embedding(config: ElmoConfig | None = None, **arguments: Any) -> ElmoEmbedding:
    return ElmoEmbedding(config or "demo", dropout=0.0, **arguments)


def check_vectors(result: Any, **_: Any) -> None:
    vectors, mask = result
    if isinstance(vectors, keras.KerasTensor):
        return
    assert vectors.dtype == tf.float32
    assert vectors.shape[-1] == 128
    assert np.isfinite(vectors.numpy()).all()
    if mask is not None:
        assert mask.shape == vectors.shape[:-1]
        assert (vectors.numpy()[~mask.numpy()] == 0).all()


def from_mutated_config(layer: Callable[[], Any], seed: int) -> Any:
    """A layer of a config in which something is wrong that is ours: names and dtypes are Keras's."""
    made = layer()
    config = made.get_config()
    of_keras = {name: config.pop(name) for name in ("name", "trainable", "dtype", "mix_regularizer") if name in config}
    mutated, _ = mutated_json(random.Random(seed), json.dumps(config))
    try:
        config = json.loads(mutated)
    except (ValueError, RecursionError):  # JSON that nobody can read
        return None
    if not isinstance(config, dict):
        return None
    try:
        return type(made).from_config({**config, **of_keras})
    except TypeError as error:
        if not str(error).startswith("Error when deserializing"):  # Keras's own, which ends with ours
            raise
        raise InputTypeError(str(error)) from error


vocabularies = st.lists(tokens, max_size=4).map(lambda words: ["", *words]) | anything | odd_tensors
graph = st.booleans()
of_layers: dict[str, Callable[[], Any]] = {
    "CharacterIds": CharacterIds,
    "WhitespaceTokenizer": WhitespaceTokenizer,
    "ScalarMix": ScalarMix,
    "VocabularyCharacterIds": lambda: VocabularyCharacterIds(["", "a", "b"]),
    "ElmoEmbedding": embedding,
}
options = {
    "output_mode": st.sampled_from(["elmo", "top", "average", "all"]) | scalars,
    "num_output_representations": st.sampled_from([1, 2]) | odd_values,
    "requires_grad": flags | scalars,
    "do_layer_norm": flags | scalars,
    "dropout": st.sampled_from([0, 0.5, 1, -1, 2, float("nan")]) | scalars,
    "scalar_mix_parameters": st.sampled_from([[0, 0, 0], [1.0, 2.0], [float("nan")] * 3, "abc", [None]]) | nested_lists,
    "mix_regularizer": st.sampled_from(["l2", None]),
    "keep_sentence_boundaries": flags | scalars,
    "pooling": st.sampled_from(["mean", "max"]) | scalars,
    "max_sequence_length": limits,
    "embed_weights": flags | scalars,
    "seed": limits,
    "state": st.sampled_from(["zero", "warm", "carry"]) | scalars,
    "engine": st.sampled_from(["auto", "fused", "allennlp"]) | scalars,
    "precision": st.sampled_from(["float32", "bfloat16", "float64"]) | scalars,
    "device": st.sampled_from(["cpu", "cuda:99", "meta", "nowhere", -1, 10**30]) | odd_values,
    "options_file": scalars,
    "unknown": scalars,
}  # fmt: skip


@st.composite
def constructors(draw: st.DrawFn) -> dict[str, Any]:
    names = draw(st.lists(st.sampled_from(sorted(options)), min_size=1, max_size=2, unique=True))
    return {name: draw(options[name]) for name in names}


TABLE = [
    Entry(
        "to_tensor",
        st.fixed_dictionaries({"values": inputs | batches}, optional={"max_sequence_length": limits}),
        to_tensor,
        check_tensor,
        documented=(BridgeError, MemoryError, tf.errors.ResourceExhaustedError),
        examples=40,
    ),
    Entry(
        "CharacterIds",
        st.fixed_dictionaries({"x": inputs, "graph": graph}),
        lambda x, graph: called(CharacterIds, graph, x),
        check_character_ids,
        documented=IN_GRAPHS,
        examples=20,
    ),
    Entry(
        "CharacterIds of tokens_to_add",
        st.fixed_dictionaries({"tokens_to_add": st.dictionaries(tokens, scalars, max_size=2) | scalars}),
        CharacterIds,
        lambda layer, tokens_to_add: layer(tf.constant([["a"]])),
    ),
    Entry(
        "VocabularyCharacterIds",
        st.fixed_dictionaries({"x": inputs, "graph": graph}),
        lambda x, graph: called(lambda: VocabularyCharacterIds(["", "a", "é", "cat"]), graph, x),
        check_character_ids,
        documented=IN_GRAPHS,
        examples=20,
    ),
    Entry(
        "VocabularyCharacterIds of a vocabulary",
        st.fixed_dictionaries({"vocabulary": vocabularies}),
        VocabularyCharacterIds,
        lambda layer, vocabulary: layer(tf.constant([[1, 0]])),
        examples=40,
    ),
    Entry(
        "WhitespaceTokenizer",
        st.fixed_dictionaries(
            {
                "x": inputs
                | st.lists(tokens, min_size=1).map(
                    lambda words: tf.constant([word.encode("utf-8", "ignore") for word in words])
                ),
                "graph": graph,
            }
        ),
        lambda x, graph: called(WhitespaceTokenizer, graph, x),
        check_words,
        documented=IN_GRAPHS,
        examples=20,
    ),
    Entry(
        "WhitespaceTokenizer of max_sequence_length",
        st.fixed_dictionaries({"max_sequence_length": limits}),
        WhitespaceTokenizer,
        lambda layer, max_sequence_length: None,
    ),
    Entry(
        "ScalarMix",
        st.fixed_dictionaries(
            {"x": dense_tensors}, optional={"initial_scalar_parameters": nested_lists, "do_layer_norm": scalars}
        ),
        lambda x, **arguments: called(lambda: ScalarMix(**arguments), False, x),
        check_mixture,
        examples=20,
    ),
    Entry(
        "ElmoEmbedding",
        st.fixed_dictionaries({"x": inputs, "graph": graph}, optional={"mask": inputs | st.none()}),
        lambda x, graph, **mask: called(embedding, graph, x, **mask),
        check_vectors,
        documented=IN_GRAPHS,
        examples=40,
    ),
    Entry(
        "ElmoEmbedding of arguments",
        constructors(),
        lambda **arguments: ElmoEmbedding("demo", **arguments),
        lambda layer, **_: keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer)),
    ),
    Entry(
        "ElmoEmbedding of a config",
        st.fixed_dictionaries({"config": scalars}),
        ElmoEmbedding,
        lambda layer, config: None,
    ),
    Entry(
        "from_config",
        st.fixed_dictionaries({"layer": st.sampled_from(sorted(of_layers)), "seed": st.integers(0, 10**6)}),
        lambda layer, seed: from_mutated_config(of_layers[layer], seed),
        lambda made, **_: None,
    ),
    Entry(
        "split_head",
        st.fixed_dictionaries(
            {
                "model": anything
                | odd_tensors
                | st.sampled_from([keras.Sequential(), keras.layers.Dense(1), CharacterIds()])
            }
        ),
        split_head,
        lambda head, model: None,
    ),
    Entry(
        "ScalarMixLogger", st.fixed_dictionaries({"log_dir": scalars}), ScalarMixLogger, lambda callback, log_dir: None
    ),
]


@pytest.mark.slow
@parametrized(TABLE)
def test_layers(entry: Entry) -> None:
    fuzz(entry)


@pytest.mark.slow
@parametrized(TABLE)
def test_layers_for_long(entry: Entry) -> None:
    assert fuzz(entry, SLOW)["refused"] or entry.name == "ScalarMixLogger"
