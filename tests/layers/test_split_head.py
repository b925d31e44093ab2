"""Heads without their ELMo: the same numbers from features, exported and served where there is no PyTorch."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from layers.harness import SENTENCES, assert_close, tokens

from bridge import ElmoConfig, ElmoEmbedding, ElmoEncoder, ScalarMix, batch_to_ids, split_head
from bridge.errors import InputTypeError, InputValueError, UnsupportedError

TOKENS = tokens([*SENTENCES, []])
IDS = batch_to_ids([*SENTENCES, []])


def sequential(config: ElmoConfig, **arguments: Any) -> keras.Sequential:
    model = keras.Sequential([keras.Input((None,), dtype="string"), ElmoEmbedding(config, **arguments)])
    model.add(keras.layers.Bidirectional(keras.layers.LSTM(4)))  # honours the mask
    model.add(keras.layers.Dropout(0.3))
    model.add(keras.layers.Dense(2, name="scores"))
    for number, weight in enumerate(model.trainable_weights, start=1):  # as if trained
        weight.assign(weight + 0.05 * number)
    return model


def features(config: ElmoConfig, **arguments: Any) -> np.ndarray:
    return ElmoEncoder(config, **arguments)(IDS).activations.numpy()


MODES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "elmo": ({}, {}),
    "fixed mix": ({"scalar_mix_parameters": [0.5, 2.0, -1.0]}, {}),
    "top": ({"output_mode": "top"}, {}),
    "average": ({"output_mode": "average"}, {}),
    "boundaries": ({"keep_sentence_boundaries": True}, {"keep_sentence_boundaries": True}),
    "warm": ({"state": "warm"}, {"state": "warm"}),
    "three tokens": ({"max_sequence_length": 3}, {}),
}


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_the_head_gives_what_the_model_gives(mode: str, small: ElmoConfig) -> None:
    layer_arguments, encoder_arguments = MODES[mode]
    model = sequential(small, **layer_arguments)
    head = split_head(model)
    assert [tensor.name for tensor in head.inputs] == ["elmo_features"]
    assert not any(isinstance(layer, ElmoEmbedding) for layer in head._flatten_layers())
    assert_close(head(features(small, **encoder_arguments)), model(TOKENS), 1e-6)
    # The mask is that of the features: more padding changes nothing.
    if "max_sequence_length" not in layer_arguments:
        padded = np.pad(features(small, **encoder_arguments), [(0, 0), (0, 2), (0, 0), (0, 0)])
        assert_close(head(padded), model(TOKENS), 1e-6)


def test_pooling_and_passages(small: ElmoConfig) -> None:
    inputs = keras.Input((None, None, 50), dtype="int32")
    model = keras.Model(inputs, keras.layers.Dense(2)(ElmoEmbedding(small, pooling="mean")(inputs)))
    layers = features(small)
    passages = np.stack([IDS, IDS[::-1]])
    assert_close(split_head(model)(np.stack([layers, layers[::-1]])), model(passages), 1e-6)


def test_several_representations_and_outputs(small: ElmoConfig) -> None:
    inputs = keras.Input((None,), dtype="string")
    first, second = ElmoEmbedding(small, num_output_representations=2)(inputs)
    outputs = {"a": keras.layers.GlobalAveragePooling1D()(first), "b": keras.layers.LSTM(3)(first + second)}
    model = keras.Model(inputs, outputs)
    model.layers[1].scalar_mixes[1].gamma.assign(3.0)
    wanted, received = model(TOKENS[:2]), split_head(model)(features(small)[:2])
    assert wanted.keys() == received.keys()
    for name, values in wanted.items():
        assert_close(received[name], values, 1e-6)


def test_other_inputs_stay(small: ElmoConfig) -> None:
    words, length = keras.Input((None,), dtype="string", name="words"), keras.Input((1,), name="length")
    unused = keras.Input((1,), name="unused")
    lookup = keras.layers.StringLookup(vocabulary=["The", "cat"], mask_token="")
    embedded = keras.layers.Embedding(4, 12, mask_zero=True)(lookup(words))
    vectors = keras.layers.Concatenate()([ElmoEmbedding(small)(words), embedded])
    pooled = keras.layers.Concatenate()([keras.layers.GlobalAveragePooling1D()(vectors), length])
    model = keras.Model([words, length, unused], [keras.layers.Dense(1)(pooled), length])
    head = split_head(model)
    assert [tensor.name for tensor in head.inputs] == ["elmo_features", "words", "length"]
    lengths = keras.ops.array([[3.0], [1.0]])
    [wanted, _], [received, _] = (
        model([TOKENS[:2], lengths, lengths]),
        head([keras.ops.array(features(small)[:2]), TOKENS[:2], lengths]),
    )
    assert_close(received, wanted, 1e-6)


@pytest.mark.slow
def test_layers_are_shared_and_the_model_is_left_alone(small: ElmoConfig) -> None:
    model = sequential(small, dropout=0.0)
    before = model(TOKENS).numpy()
    head = split_head(model)
    np.testing.assert_array_equal(model(TOKENS), before)
    head.compile(keras.optimizers.SGD(0.1), "mse")
    head.fit(features(small), np.ones((3, 2)), verbose=0)
    assert float(model.layers[0].scalar_mix.gamma) != 1.0
    assert_close(head(features(small)), model(TOKENS), 1e-6)
    assert not np.allclose(model(TOKENS), before)
    assert split_head(model).count_params() == head.count_params()


def test_a_fine_tuned_models_own_features(small: ElmoConfig) -> None:
    model = sequential(small, requires_grad=True, dropout=0.0)
    assert_close(split_head(model)(model.layers[0].bilm(IDS)), model(TOKENS), 1e-6)


SERVE = """
import sys
import numpy as np
import tensorflow as tf
head = tf.saved_model.load(sys.argv[1])
np.save(sys.argv[3], head.serve(np.load(sys.argv[2])))
assert "torch" not in sys.modules and "bridge" not in sys.modules
"""


@pytest.mark.slow
def test_an_exported_head_serves_in_another_process(small: ElmoConfig, tmp_path: Path) -> None:
    model = sequential(small)
    np.save(tmp_path / "features.npy", features(small))
    split_head(model).export(tmp_path / "exported", verbose=False)
    arguments = [str(tmp_path / name) for name in ("exported", "features.npy", "scores.npy")]
    subprocess.run([sys.executable, "-c", SERVE, *arguments], check=True, cwd=tmp_path, env=dict(os.environ))
    assert_close(np.load(tmp_path / "scores.npy"), model(TOKENS), 1e-5)


def test_a_saved_head_loads_again(small: ElmoConfig, tmp_path: Path) -> None:
    head = split_head(sequential(small))
    head.save(tmp_path / "head.keras")
    loaded = keras.models.load_model(tmp_path / "head.keras")
    np.testing.assert_array_equal(loaded(features(small)), head(features(small)))


def two_layers(config: ElmoConfig) -> keras.Model:
    inputs = keras.Input((None,), dtype="string")
    return keras.Model(inputs, ElmoEmbedding(config)(inputs) + ElmoEmbedding(config)(inputs))


def two_calls(config: ElmoConfig) -> keras.Model:
    inputs, layer = [keras.Input((None,), dtype="string") for _ in range(2)], ElmoEmbedding(config)
    return keras.Model(inputs, layer(inputs[0]) + layer(inputs[1]))


def no_layer(_: ElmoConfig) -> keras.Model:
    inputs = keras.Input((None, 3, 12))
    return keras.Model(inputs, ScalarMix()(inputs))


WRONG: dict[str, tuple[Any, Any, str]] = {
    "no model": (lambda _: "model.keras", InputTypeError, "`model` must be a Keras model.*model.keras"),
    "no graph": (lambda c: keras.Sequential([ElmoEmbedding(c)]), InputValueError, "begins with a `keras.Input`"),
    "no layer": (no_layer, InputValueError, "one ElmoEmbedding at its top level. Received: 0"),
    "two layers": (two_layers, InputValueError, "one ElmoEmbedding at its top level. Received: 2"),
    "two calls": (two_calls, InputValueError, "call its ElmoEmbedding once. Received: several calls"),
    "layer norm": (lambda c: sequential(c, do_layer_norm=True), UnsupportedError, "Train with `do_layer_norm=False`"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_split(case: str, small: ElmoConfig) -> None:
    make, error, text = WRONG[case]
    with pytest.raises(error, match=text):
        split_head(make(small))
