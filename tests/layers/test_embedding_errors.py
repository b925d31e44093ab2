"""What ElmoEmbedding refuses, when, and in which words."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from layers.harness import SENTENCES, ids, tokens

from bridge import ElmoConfig, ElmoEmbedding
from bridge.errors import BridgeError, InputTypeError, InputValueError

IDS = ids(SENTENCES)


@pytest.fixture(scope="module")
def embed(small: ElmoConfig) -> ElmoEmbedding:
    return ElmoEmbedding(small)


WRONG_MODELS: dict[str, tuple[tuple[int | None, ...], str | None, type[Exception], str]] = {
    # what: shape and dtype of keras.Input, the error, part of its text
    "ids without a dtype": ((None, 50), None, InputTypeError, r'float32.*keras\.Input\(\(None, 50\), dtype="int32"\)'),
    "8-bit ids": ((None, 50), "int8", InputTypeError, "dtype int8, which can't hold them"),
    "word ids": ((None,), "int32", InputValueError, r"shape \(None, None\), which looks like word ids"),
    "49 characters": ((None, 49), "int32", InputValueError, "49 characters a token"),
    "rank 5": ((None, 2, 3, 50), "int32", InputValueError, "of rank 5"),
    "raw sentences": ((), "string", InputValueError, r"shape \(None,\)\. Split sentences into tokens"),
    "strings of rank 4": ((None, None, 2), "string", InputValueError, r"shape \(None, None, None, 2\)"),
}


@pytest.mark.parametrize("case", WRONG_MODELS)
def test_wrong_models_fail_when_they_are_built(case: str, embed: ElmoEmbedding) -> None:
    shape, dtype, error, text = WRONG_MODELS[case]
    with pytest.raises(error, match=rf"(?s)must be .*Received: .*{text}"):
        embed(keras.Input(shape, dtype=dtype))
    with pytest.raises(error, match=rf"(?s)must be .*Received: .*{text}"):
        keras.Sequential([keras.Input(shape, dtype=dtype), embed])


def test_a_model_without_an_input_names_it(embed: ElmoEmbedding) -> None:
    """Keras then makes up a float input, whatever the data is."""
    model = keras.Sequential([embed])
    with pytest.raises(InputTypeError, match=r'Begin the model with `keras\.Input\(\(None,\), dtype="string"\)`'):
        model.predict(tokens(SENTENCES), verbose=0)


def graph_call(embed: ElmoEmbedding, inputs: Any, mask: Any = None) -> Any:
    """A call whose graph knows nothing but rank and dtype."""
    signature = [tf.TensorSpec([None] * (2 if inputs.dtype == tf.string else 3), inputs.dtype)]
    if mask is None:
        return tf.function(embed, input_signature=signature)(inputs)
    signature.append(tf.TensorSpec([None, None], tf.constant(mask).dtype))
    return tf.function(lambda inputs, mask: embed(inputs, mask=mask), input_signature=signature)(inputs, mask)


WRONG_VALUES: dict[str, tuple[Callable[[], Any], Any, str]] = {
    # what: the input, the mask, part of the text
    "padding before a token": (
        lambda: tf.constant([["a", "", "b"]]),
        None,
        "row 0 of the batch with padding at timestep 1",
    ),
    "padding first": (lambda: tf.constant(IDS[:, ::-1]), None, "row 1 of the batch with padding at timestep 0"),
    "an id too high": (lambda: tf.constant(IDS + 1), None, "from 0 to 261. Received: 262 in row 0 at timestep 0"),
    "a negative id": (lambda: tf.constant(-IDS), None, "from 0 to 261. Received: -259"),
    "mask with a hole": (
        lambda: tokens(SENTENCES),
        [[True, False, True], [True, False, False]],
        "may only cut the end of a row. Received: row 0 masked at timestep 1",
    ),
    "mask that claims padding": (
        lambda: tf.constant(IDS),
        [[True, True, True], [True, True, False]],
        "must not claim a token .* row 1 at timestep 1",
    ),
    "mask of one row": (lambda: tf.constant(IDS), [[True, False, False]], r"\(batch, timesteps\) = \(2, 3\)"),
    "mask of word ids": (lambda: tf.constant(IDS), [[17, 4, 9], [2, 0, 0]], r"must be bool or 0/1.*`ids != 0`"),
}


@pytest.mark.parametrize("case", WRONG_VALUES)
def test_wrong_values(case: str, embed: ElmoEmbedding) -> None:
    """Our own error in eager mode; in a graph TensorFlow's, with the text. Neither harms the layer."""
    make_inputs, mask, text = WRONG_VALUES[case]
    inputs = make_inputs()
    with pytest.raises(InputValueError, match=rf"(?s){text}"):
        embed(inputs, mask=None if mask is None else np.array(mask))
    with pytest.raises(tf.errors.InvalidArgumentError, match=rf"(?s){text}"):
        graph_call(embed, inputs, mask)
    assert embed(IDS).shape == (2, 3, 12)


def test_wrong_values_in_predict_carry_the_text(embed: ElmoEmbedding) -> None:
    model = keras.Sequential([keras.Input((None,), dtype="string"), embed])
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"padding at timestep 1, before a token\. Pad"):
        model.predict(tf.constant([["a", "", "b"]]), verbose=0)
    assert model.predict(tf.constant([["a", "b", ""]]), verbose=0).shape == (1, 3, 12)


def test_a_wrong_width_that_only_the_values_show(embed: ElmoEmbedding) -> None:
    with pytest.raises(tf.errors.InvalidArgumentError, match="49 characters a token"):
        graph_call(embed, tf.constant(IDS[:, :, :49]))


WRONG_INPUTS: dict[str, tuple[Callable[[], Any], str]] = {
    "list of token lists": (lambda: SENTENCES, r"type list\..*`bridge\.to_tensor\(values\)`"),
    "list of tensors": (lambda: [tf.constant(IDS)], "type list"),
    "dict": (lambda: {"tokens": tokens(SENTENCES)}, "type dict"),
    "a sentence": (lambda: "The cat sat", "type str"),
    "None": (lambda: None, "type NoneType"),
    "ragged": (lambda: tf.ragged.constant(SENTENCES), r"RaggedTensor.*`inputs\.to_tensor\(\)`"),
    "sparse": (lambda: tf.sparse.from_dense(IDS), r"SparseTensor.*`tf\.sparse\.to_dense\(inputs\)`"),
}


@pytest.mark.parametrize("case", WRONG_INPUTS)
def test_inputs_that_are_no_tensor(case: str, embed: ElmoEmbedding) -> None:
    make_inputs, text = WRONG_INPUTS[case]
    with pytest.raises(InputTypeError, match=rf"(?s)`inputs` must be .*Received: .*{text}"):
        embed(make_inputs())


@pytest.mark.parametrize("shape", [(2, 2), (1, 3), (2, 1), (2,), (2, 3, 1)])
def test_a_mask_of_another_shape(shape: tuple[int, ...], embed: ElmoEmbedding) -> None:
    text = r"`mask` must have shape \(batch, timesteps\) = \(2, 3\)\. Received: shape \(\d"
    with pytest.raises(InputValueError, match=text):
        embed(IDS, mask=np.ones(shape, bool))
    with pytest.raises(InputValueError, match=text):
        embed(keras.Input(batch_shape=(2, 3, 50), dtype="int32"), mask=keras.Input(batch_shape=shape, dtype="bool"))


def test_a_mask_that_is_no_tensor(embed: ElmoEmbedding) -> None:
    with pytest.raises(
        InputTypeError, match=r"`mask` must be .* of type list\. Make it one with `np\.array\(mask, dtype=bool\)`"
    ):
        embed(IDS, mask=[[True, True, False], [True, False, False]])


WRONG_ARGUMENTS: dict[str, tuple[dict[str, Any], str]] = {
    "output_mode": ({"output_mode": "last"}, r"""`output_mode` must be "elmo" .*Received: 'last'"""),
    "state": ({"state": "keep"}, "`state` must be .*Received: 'keep'"),
    "engine": ({"engine": "tensorflow"}, "`engine` must be .*Received: 'tensorflow'"),
    "precision": ({"precision": "float64"}, "`precision` must be .*Received: 'float64'"),
    "half precision of AllenNLP's": (
        {"precision": "bfloat16", "engine": "allennlp"},
        "`precision` must be .*float32.* with `engine=.allennlp.`.*Received: 'bfloat16'",
    ),
    "fine-tuning in half precision": (
        {"requires_grad": True, "precision": "bfloat16"},
        "`requires_grad=True` must have .*Received: 'auto' and 'bfloat16'",
    ),
    "fine-tuning the fused biLM": (
        {"requires_grad": True, "engine": "fused"},
        "`requires_grad=True` must have .*Received: 'fused' and 'float32'",
    ),
    "no timesteps": ({"max_sequence_length": 0}, "`max_sequence_length` must be at least 1. Received: 0"),
    "negative timesteps": ({"max_sequence_length": -1}, "`max_sequence_length` must be .*Received: -1"),
    "timesteps as a truth value": ({"max_sequence_length": True}, "`max_sequence_length` must be .*Received: True"),
    "timesteps as a float": ({"max_sequence_length": 3.0}, "`max_sequence_length` must be .*Received: 3.0"),
    "a rate above 1": ({"dropout": 2}, "`dropout` must be a rate from 0 to 1. Received: 2"),
    "a rate as text": ({"dropout": "0.5"}, "`dropout` must be a rate from 0 to 1. Received: '0.5'"),
    "layer norm without a mix": (
        {"do_layer_norm": True, "output_mode": "top"},
        "`do_layer_norm` must be left out without a mix.*Received: .*'top'",
    ),
    "parameters without a mix": (
        {"scalar_mix_parameters": [1, 2, 3], "output_mode": "all"},
        "`scalar_mix_parameters` must be left out without a mix.*Received: .*'all'",
    ),
    "a mix of two": (
        {"scalar_mix_parameters": [0, 1]},
        r"`scalar_mix_parameters` .* 3 layers\. Received: \[0\.0, 1\.0\]",
    ),
    "a mix of none": ({"scalar_mix_parameters": []}, "`scalar_mix_parameters` must have one number for each"),
}


@pytest.mark.parametrize("case", WRONG_ARGUMENTS)
def test_wrong_arguments_fail_when_the_layer_is_made(case: str, small: ElmoConfig) -> None:
    arguments, text = WRONG_ARGUMENTS[case]
    with pytest.raises((InputValueError, InputTypeError), match=text):
        ElmoEmbedding(small, **arguments)


def test_no_weights_named() -> None:
    with pytest.raises(BridgeError, match="No ELMo weights were named"):
        ElmoEmbedding()


def test_numpy_arguments_become_plain_json(small: ElmoConfig) -> None:
    numbers: dict[str, Any] = {"max_sequence_length": np.int64(2), "scalar_mix_parameters": np.array([0, 1, 2])}
    layer = ElmoEmbedding(small, **numbers)
    config = layer.get_config()
    assert type(config["max_sequence_length"]) is int
    assert [type(number) for number in config["scalar_mix_parameters"]] == [float] * 3
    assert ElmoEmbedding(small, device="cpu").get_config()["device"] == "cpu"


UNKNOWN_ARGUMENTS = {
    "num_output_represenations": "Did you mean `num_output_representations`",
    "do_layernorm": "Did you mean `do_layer_norm`",
    "options_file": "Give both files as `config=ElmoConfig",
    "vocab_to_cache": "It has: config, ",
}


@pytest.mark.parametrize("name", UNKNOWN_ARGUMENTS)
def test_unknown_arguments_are_told_with_the_nearest(name: str, small: ElmoConfig) -> None:
    arguments: dict[str, Any] = {name: 1}
    with pytest.raises(InputTypeError, match=f"Received: `{name}`. {UNKNOWN_ARGUMENTS[name]}"):
        ElmoEmbedding(small, **arguments)


def test_a_config_that_is_none() -> None:
    with pytest.raises(InputTypeError, match="`config` must be an INI file, a named model or an ElmoConfig"):
        ElmoEmbedding(5)  # type: ignore[arg-type]
