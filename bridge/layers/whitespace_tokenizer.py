"""Raw sentences to string tokens inside a Keras model: `WhitespaceTokenizer`."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from bridge.checks import check_integer
from bridge.errors import InputTypeError, InputValueError
from bridge.layers.casts import check_no_cast_to_string
from bridge.layers.fixed_arguments import FixedArguments
from bridge.layers.inputs import check_is_tensor, dtype_of, shape_of

# What Python's `str.isspace` calls whitespace. TensorFlow's own split knows the ASCII part of it.
WHITESPACE = r"[\t-\r\x{1c}-\x{20}\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}]+"


@keras.saving.register_keras_serializable(package="elmo_keras_bridge")
class WhitespaceTokenizer(FixedArguments, keras.layers.Layer):
    """Raw sentences to string tokens, split where Python's `str.split()` splits, in pure TensorFlow ops.

    Case and punctuation stay as they are: ELMo has seen both. Its training text had punctuation split off
    ("sat ." rather than "sat."), so a tokenizer for the language gives better vectors than whitespace does.

    Args:
        max_sequence_length: pad and truncate every batch to so many tokens; its longest sentence's by default.
        **kwargs: `name` and so on, as for every Keras layer.

    Call arguments:
        inputs: UTF-8 strings `(batch,)` or `(batch, 1)`, a sentence each.

    Returns:
        String tokens `(batch, timesteps)`, padded with `""`. A sentence without words is a row of padding, and
        `timesteps` is at least 1: recurrent layers cannot run on none.

    Masking:
        The mask `(batch, timesteps)` is true where a token is.

    Raises:
        InputTypeError, InputValueError: dtype or rank are wrong, when the model is built.

    Example:
        >>> WhitespaceTokenizer()(tf.constant(["The cat sat", "Hello"])).shape
        TensorShape([2, 3])
    """

    def __init__(self, max_sequence_length: int | None = None, **kwargs: Any) -> None:
        super().__init__(autocast=False, **kwargs)
        if max_sequence_length is not None:
            check_integer("max_sequence_length", max_sequence_length, minimum=1, maximum=2**31 - 1)
        self.supports_jit = False  # XLA knows no strings
        self.max_sequence_length = None if max_sequence_length is None else int(max_sequence_length)
        self._fixed_arguments = frozenset({"max_sequence_length"})

    @tf.autograph.experimental.do_not_convert  # AutoGraph would keep the layer alive
    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        check_is_tensor(inputs, "raw sentences")
        return super().__call__(inputs, *args, **kwargs)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        check_sentences(inputs)
        check_no_cast_to_string(inputs, "raw sentences")
        sentences = tf.reshape(inputs, [-1])
        # Words as TensorFlow's split finds them once every space is an ASCII one.
        words = tf.strings.split(tf.strings.regex_replace(sentences, WHITESPACE, " "))
        tokens = words.to_tensor("", shape=[None, self.max_sequence_length])
        missing = tf.maximum(1 - tf.shape(tokens)[1], 0)
        tokens = tf.pad(tokens, [[0, 0], [0, missing]], constant_values="")
        return tf.ensure_shape(tokens, self.compute_output_shape(inputs.shape))

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> tf.Tensor | None:
        if isinstance(inputs, keras.KerasTensor):
            return None  # of a symbolic input; the mask of a real one is computed when the model runs
        return tf.not_equal(self.call(tf.convert_to_tensor(inputs)), "")

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (input_shape[0], self.max_sequence_length)

    def compute_output_spec(self, inputs: Any) -> keras.KerasTensor:
        check_sentences(inputs)
        return keras.KerasTensor(self.compute_output_shape(inputs.shape), dtype="string")

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "max_sequence_length": self.max_sequence_length}


def check_sentences(inputs: Any) -> None:
    """Raises unless `inputs` is a (symbolic) string tensor `(batch,)` or `(batch, 1)`."""
    wanted = "`inputs` must be raw sentences, strings of shape (batch,) or (batch, 1)"
    if dtype_of(inputs) != "string":
        raise InputTypeError(
            f"{wanted}. Received: dtype {dtype_of(inputs)}. A model declares them with "
            '`keras.Input((), dtype="string")`.'
        )
    shape = shape_of(inputs)
    if shape is None or len(shape) not in (1, 2) or shape[1:] not in ((), (1,)):
        raise InputValueError(
            f"{wanted}. Received: shape {shape}. Give string tokens (batch, timesteps) to `ElmoEmbedding` as they "
            'are, without this layer; a model declares sentences with `keras.Input((), dtype="string")`, and a '
            "dataset of unknown shape with `tf.ensure_shape(sentences, [None])`."
        )
