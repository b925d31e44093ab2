"""What ElmoEmbedding computes: from any kind of input, in every mode, under masks and dtype policies."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from layers.harness import MASK, SENTENCES, assert_close, ids, keras_mask, tokens

from bridge import BiLmOutput, CharacterIds, ElmoConfig, ElmoEmbedding, ElmoEncoder, batch_to_ids
from bridge.text.character_checks import CHARACTER_ID_DTYPES

TOKENS = tokens(SENTENCES)
IDS = ids(SENTENCES)
CUT = np.array([[True, True, False], [True, False, False]])  # The cat | Hello


@pytest.fixture(scope="module")
def embed(small: ElmoConfig) -> ElmoEmbedding:
    return ElmoEmbedding(small)


@pytest.fixture(scope="module")
def activations(small: ElmoConfig) -> np.ndarray:
    """Every layer for SENTENCES, from the encoder itself."""
    return ElmoEncoder(small)(IDS).activations.numpy()


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """The ids of every call that reaches PyTorch."""
    calls: list[np.ndarray] = []
    run = ElmoEncoder.__call__

    def spy(self: ElmoEncoder, char_ids: Any, mask: Any = None) -> BiLmOutput:
        calls.append(np.array(char_ids))
        return run(self, char_ids, mask)

    monkeypatch.setattr(ElmoEncoder, "__call__", spy)
    return calls


INPUTS: dict[str, Callable[[], Any]] = {
    "NumPy str": lambda: np.array([["The", "cat", "sat"], ["Hello", "", ""]]),
    "NumPy bytes": lambda: np.array([["The", "cat", "sat"], ["Hello", "", ""]], dtype="S"),
    "NumPy objects": lambda: np.array([["The", "cat", "sat"], ["Hello", "", ""]], dtype=object),
    "int64 tensor": lambda: tf.constant(IDS, tf.int64),
    "variable": lambda: tf.Variable(IDS),
    **{f"{dtype} array": partial(IDS.astype, dtype) for dtype in CHARACTER_ID_DTYPES},
}


@pytest.mark.parametrize("max_sequence_length", [None, 2])
def test_a_dataset_that_does_not_know_its_rank(max_sequence_length: int | None, small: ElmoConfig) -> None:
    layer = ElmoEmbedding(small, max_sequence_length=max_sequence_length, dropout=0.0)
    for batch, dtype in ((TOKENS.numpy(), tf.string), (IDS, tf.int32)):
        data = tf.data.Dataset.from_tensors(batch).map(partial(unknown_rank, dtype=dtype))
        (output,) = data.map(layer)
        np.testing.assert_allclose(output, layer(TOKENS), atol=1e-6)


def unknown_rank(batch: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    return tf.py_function(lambda values: values, [batch], dtype)


@pytest.mark.parametrize("kind", INPUTS)
def test_every_kind_of_input_gives_the_same(kind: str, embed: ElmoEmbedding) -> None:
    output = embed(INPUTS[kind]())
    np.testing.assert_array_equal(output, embed(TOKENS))
    np.testing.assert_array_equal(keras_mask(output), MASK)


def test_output_modes(small: ElmoConfig, activations: np.ndarray) -> None:
    def embedded(**arguments: Any) -> np.ndarray:
        return ElmoEmbedding(small, **arguments)(TOKENS).numpy()

    assert_close(embedded(output_mode="all"), activations)
    assert_close(embedded(output_mode="top"), activations[:, :, -1])
    assert_close(embedded(output_mode="average"), activations.mean(axis=2))
    assert_close(embedded(), activations.mean(axis=2))
    for layer in range(3):
        one = [1.0 if layer == index else -9e10 for index in range(3)]
        assert_close(embedded(scalar_mix_parameters=one), activations[:, :, layer])


def test_padding_is_zero_and_changes_nothing(embed: ElmoEmbedding) -> None:
    output = embed(tokens([*SENTENCES, [], ["x"] * 9])).numpy()
    assert not output[2].any()
    assert not output[1, 1:].any()
    assert_close(output[:2, :3], embed(TOKENS))
    assert_close(output[1:2, :1], embed(tokens(SENTENCES[1:])))


@pytest.mark.parametrize("shape", [(0, 3), (2, 0), (0, 0)])
@pytest.mark.parametrize("do_layer_norm", [False, True])
def test_empty_batches(shape: tuple[int, int], do_layer_norm: bool, small: ElmoConfig) -> None:
    layer = ElmoEmbedding(small, do_layer_norm=do_layer_norm)
    assert tuple(layer(tf.zeros(shape, tf.string)).shape) == (*shape, 12)
    assert tuple(layer(np.zeros((*shape, 50), "int32")).shape) == (*shape, 12)


def test_nothing_but_padding_is_zero(small: ElmoConfig) -> None:
    for do_layer_norm in (False, True):
        output = ElmoEmbedding(small, do_layer_norm=do_layer_norm)(tf.constant([["", ""], ["", ""]]))
        np.testing.assert_array_equal(output, np.zeros((2, 2, 12)))


@pytest.mark.parametrize("output_mode", ["elmo", "top"])
def test_keep_sentence_boundaries(output_mode: Any, small: ElmoConfig) -> None:
    plain = ElmoEmbedding(small, output_mode=output_mode)(TOKENS).numpy()
    layer = ElmoEmbedding(small, output_mode=output_mode, keep_sentence_boundaries=True)
    kept = layer(TOKENS)
    np.testing.assert_array_equal(keras_mask(kept).numpy().sum(axis=1), [5, 3])
    assert_close(kept[0, 1:-1], plain[0])
    assert_close(kept[1, 1:2], plain[1, :1])
    assert kept.numpy()[1, [0, 2]].all(), "no vector for a boundary"
    assert not kept.numpy()[1, 3:].any()
    np.testing.assert_array_equal(kept, layer(IDS))


@pytest.mark.parametrize("length", [1, 2, 3, 5])
@pytest.mark.parametrize("as_ids", [False, True])
def test_max_sequence_length(length: int, as_ids: bool, small: ElmoConfig, embed: ElmoEmbedding) -> None:
    """The same as cutting the sentences: the backward LSTM must not read what was cut."""
    layer = ElmoEmbedding(small, max_sequence_length=length)
    output = layer(IDS if as_ids else TOKENS)
    assert_close(output, embed(batch_to_ids(SENTENCES, max_sequence_length=length)))
    np.testing.assert_array_equal(keras_mask(output), np.arange(length) < np.minimum([[3], [1]], length))

    masked = layer(IDS if as_ids else TOKENS, mask=CUT)
    assert_close(masked, embed(batch_to_ids([["The", "cat"], ["Hello"]], max_sequence_length=length)))
    np.testing.assert_array_equal(keras_mask(masked), np.arange(length) < np.minimum([[2], [1]], length))


class CutTo(keras.layers.Layer):
    """Passes its input on, with a mask that keeps `length` timesteps."""

    def __init__(self, length: int) -> None:
        super().__init__(autocast=False)
        self.supports_masking = True
        self.length = length

    def call(self, inputs: Any) -> Any:
        return tf.identity(inputs)

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        if isinstance(inputs, keras.KerasTensor):
            return None
        kept = tf.range(tf.shape(inputs)[1]) < self.length
        return tf.repeat(kept[tf.newaxis], tf.shape(inputs)[0], axis=0)

    def compute_output_spec(self, inputs: Any) -> keras.KerasTensor:
        return keras.KerasTensor(inputs.shape, inputs.dtype)


MASKED_CALLS: dict[str, Callable[[ElmoEmbedding], Any]] = {
    "explicit": lambda embed: embed(IDS, mask=tf.constant(CUT)),
    "positional": lambda embed: embed(TOKENS, tf.constant(CUT)),
    "integers": lambda embed: embed(IDS, mask=CUT.astype("int64")),
    "floats": lambda embed: embed(TOKENS, mask=CUT.astype("float32")),
    # This one is true at padding too: CharacterIds knows better.
    "a layer's, through CharacterIds": lambda embed: embed(CharacterIds()(CutTo(2)(TOKENS))),
    "in a model": lambda embed: model_with_mask(embed).predict([IDS, CUT], verbose=0),
}


def model_with_mask(embed: ElmoEmbedding) -> keras.Model:
    inputs, mask = keras.Input((None, 50), dtype="int32"), keras.Input((None,), dtype="bool")
    return keras.Model([inputs, mask], embed(inputs, mask=mask))


@pytest.mark.parametrize("call", MASKED_CALLS)
def test_masked_tokens_are_padding(call: str, embed: ElmoEmbedding) -> None:
    cut_sentences = embed(tokens([["The", "cat"], ["Hello"]]))
    output = MASKED_CALLS[call](embed)
    assert_close(output[:, :2], cut_sentences)
    assert not np.any(output[:, 2])
    if isinstance(output, tf.Tensor):
        np.testing.assert_array_equal(keras_mask(output), CUT)


def test_a_keras_mask_that_covers_all_tokens_is_used(embed: ElmoEmbedding) -> None:
    sentences = [["The", "cat", "sat"], ["on", "the", "mat"]]
    output = embed(CutTo(1)(tokens(sentences)))
    np.testing.assert_array_equal(keras_mask(output), [[True, False, False]] * 2)
    assert_close(output[:, :1], embed(tokens([["The"], ["on"]])))


def test_layer_norm_leaves_masked_tokens_out(small: ElmoConfig) -> None:
    layer = ElmoEmbedding(small, do_layer_norm=True)
    assert_close(layer(IDS, mask=CUT)[:, :2], layer(tokens([["The", "cat"], ["Hello"]])))


def test_dropout_only_in_training(small: ElmoConfig, embed: ElmoEmbedding) -> None:
    layer = ElmoEmbedding(small, dropout=0.4)
    sentences = tokens([["word"] * 40] * 10)
    plain = embed(sentences).numpy()
    for inference in (layer(sentences), layer(sentences, training=False)):
        np.testing.assert_array_equal(inference, plain)
    first, second = (layer(sentences, training=True).numpy() for _ in range(2))
    assert 0.35 < np.mean(first == 0) < 0.45
    assert np.any((first == 0) != (second == 0))
    assert_close(first[first != 0], plain[first != 0] / 0.6)
    undropped = ElmoEmbedding(small, dropout=0.0)
    np.testing.assert_array_equal(undropped(sentences, training=True), plain)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16", "float64"])
def test_dtype_policies_keep_ids_exact(policy: str, small: ElmoConfig, seen: list[np.ndarray]) -> None:
    """bfloat16 has no 257, the id of `<S>`: it would silently become 256."""
    sentences = [["<S>", "ÿ", "</S>"]]
    wanted = ElmoEmbedding(small)(tokens(sentences))
    keras.config.set_dtype_policy(policy)
    try:
        layer = ElmoEmbedding(small)
        inputs = keras.Input((None, 50), dtype="int32")
        model = keras.Model(inputs, layer(inputs))
    finally:
        keras.config.set_dtype_policy("float32")
    calls: list[Callable[[], Any]] = [
        lambda: layer(tokens(sentences)),
        lambda: layer(ids(sentences)),
        lambda: model(ids(sentences)),
        lambda: model.predict(ids(sentences), verbose=0),
    ]
    for call in calls:
        output = tf.constant(call())
        assert output.dtype == policy.removeprefix("mixed_")
        assert_close(output, wanted, 0.01)
    assert len(seen) == 1 + len(calls)
    assert all((char_ids == ids(sentences)).all() for char_ids in seen)
    assert layer.scalar_mix.gamma.dtype == ("float64" if policy == "float64" else "float32")


def test_mixed_policies_round_nothing_but_the_result(small: ElmoConfig, embed: ElmoEmbedding) -> None:
    output = ElmoEmbedding(small, dtype="mixed_bfloat16")(TOKENS)
    np.testing.assert_array_equal(output, tf.cast(embed(TOKENS), tf.bfloat16))


def test_symbolic_calls_never_run_pytorch(small: ElmoConfig, seen: list[np.ndarray]) -> None:
    inputs = keras.Input((None,), dtype="string")
    model = keras.Model(inputs, keras.layers.LSTM(2)(ElmoEmbedding(small)(inputs)))
    model.compile("sgd", "mse")
    assert not seen
    model(TOKENS)
    assert len(seen) == 1


@pytest.mark.slow
def test_calls_from_four_threads(embed: ElmoEmbedding) -> None:
    batches = [tokens([["The", "cat"][: 1 + index % 2] * (1 + index)]) for index in range(8)]
    wanted = [embed(batch) for batch in batches]
    graph = tf.function(embed, input_signature=[tf.TensorSpec((None, None), tf.string)])
    with ThreadPoolExecutor(4) as pool:
        for call in (embed, graph):
            for output, alone in zip(pool.map(call, batches * 3), wanted * 3, strict=True):
                assert_close(output, alone, 1e-6)


def test_state_carry_goes_on_until_it_is_reset(small: ElmoConfig) -> None:
    layer = ElmoEmbedding(small, state="carry")
    first, second = layer(TOKENS), layer(TOKENS)
    assert np.abs(first - second).max() > 1e-4
    layer.reset_states()
    np.testing.assert_array_equal(layer(TOKENS), first)
