"""String tokens to character ids inside a Keras model: `CharacterIds`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from bridge.layers.inputs import check_is_tensor, check_string_tokens
from bridge.text.characters import (
    BEGIN_WORD,
    END_WORD,
    MAX_BYTES_PER_TOKEN,
    MAX_CHARACTERS_PER_TOKEN,
    PADDING,
    one_character_tokens,
)


@keras.saving.register_keras_serializable(package="elmo_keras_bridge")
class CharacterIds(keras.layers.Layer):
    """String tokens to ELMo's character ids, in pure TensorFlow ops.

    Equal to `batch_to_ids`, but that `""` is padding here: a tensor of strings has no other way to be ragged.
    Works in a model, in `tf.data` and by itself.

    Args:
        tokens_to_add: special tokens and their characters, see `batch_to_ids`.
        **kwargs: `name` and so on, as for every Keras layer.

    Call arguments:
        inputs: string tensor `(batch, timesteps)` or `(batch, passages, timesteps)`: UTF-8 tokens, `""` where there is
            none.

    Returns:
        int32 `(batch, timesteps, 50)` or `(batch, passages, timesteps, 50)`.

    Masking:
        The mask `(batch, timesteps)` is true where a token is. An incoming mask cuts it further, not the ids.

    Raises:
        InputTypeError: the input is not a string tensor.
        InputValueError: the input is of another rank.

    Example:
        >>> CharacterIds()(tf.constant([["The", "cat"], ["Hello", ""]])).shape
        TensorShape([2, 2, 50])
    """

    def __init__(self, tokens_to_add: Mapping[str, int] | None = None, **kwargs: Any) -> None:
        # No autocast: a float policy would turn the id 257 into 256.
        super().__init__(autocast=False, **kwargs)
        self.supports_masking = True
        self.supports_jit = False  # XLA knows no strings
        special_ids = one_character_tokens(tokens_to_add)
        # No tensor of strings holds a lone surrogate.
        self._special_ids = {
            token: number for token, number in special_ids.items() if token == token.encode("utf-8", "ignore").decode()
        }
        # Plain integers: a layer's config is JSON.
        self.tokens_to_add = (
            None if tokens_to_add is None else {token: int(number) for token, number in tokens_to_add.items()}
        )

    @tf.autograph.experimental.do_not_convert  # AutoGraph would keep the layer alive
    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        check_is_tensor(inputs)
        return super().__call__(inputs, *args, **kwargs)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        check_string_tokens(inputs)
        characters = tf.cast(tf.io.decode_raw(inputs, tf.uint8, fixed_length=MAX_BYTES_PER_TOKEN), tf.int32)
        length = tf.minimum(tf.strings.length(inputs), MAX_BYTES_PER_TOKEN)[..., tf.newaxis]
        no_padding = [[0, 0]] * inputs.shape.rank
        position = tf.range(MAX_BYTES_PER_TOKEN + 1)
        # What follows the begin-of-word character: bytes + 1, the end-of-word character, padding.
        tail = tf.where(position < length, tf.pad(characters, [*no_padding, [0, 1]]) + 1, PADDING)
        tail = tf.where(position == length, END_WORD, tail)
        ids = tf.concat([tf.fill(tf.shape(length), BEGIN_WORD), tail], axis=-1)
        for token, special_id in self._special_ids.items():
            word = [BEGIN_WORD, special_id, END_WORD] + [PADDING] * (MAX_CHARACTERS_PER_TOKEN - 3)
            ids = tf.where((inputs == token)[..., tf.newaxis], tf.constant(word), ids)
        return tf.where((inputs == "")[..., tf.newaxis], 0, ids)

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> tf.Tensor | None:
        if isinstance(inputs, keras.KerasTensor):
            return None  # of a symbolic input; the mask of a real one is computed when the model runs
        tokens = tf.not_equal(inputs, "")
        return tokens if previous_mask is None else tokens & tf.cast(previous_mask, tf.bool)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (*input_shape, MAX_CHARACTERS_PER_TOKEN)

    def compute_output_spec(self, inputs: Any) -> keras.KerasTensor:
        check_string_tokens(inputs)
        return keras.KerasTensor(self.compute_output_shape(inputs.shape), dtype="int32")

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "tokens_to_add": self.tokens_to_add}
