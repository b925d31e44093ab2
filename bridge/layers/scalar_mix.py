"""The learned mixture of biLM layers: `ScalarMix`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from bridge.checks import check_boolean, numbers_of_layers
from bridge.errors import InputTypeError, InputValueError


@keras.saving.register_keras_serializable(package="elmo_keras_bridge")
class ScalarMix(keras.layers.Layer):
    """`gamma * sum(s_k * layer_k)` with `s = softmax(scalar_parameters)`: AllenNLP's ScalarMix as a Keras layer.

    Equal to AllenNLP's in value and gradient. It mixes the layers of an `ElmoEncoder`, of
    `ElmoEmbedding(output_mode="all")` or of stored features.

    Args:
        do_layer_norm: normalise every layer before it is weighed, by one mean and variance over all unmasked
            elements of the batch.
        initial_scalar_parameters: one number a layer, before the softmax; zeros by default, which is the average.
        mix_regularizer: Keras regularizer of `scalar_parameters`, such as `"l2"` or `keras.regularizers.L2(0.001)`.
            It pulls the mix towards the average.
        trainable: whether `scalar_parameters` and `gamma` train.
        **kwargs: `name`, `dtype` and so on, as for every Keras layer.

    Call arguments:
        inputs: `(batch, timesteps, num_layers, output_dim)`, or `(batch, passages, timesteps, ...)`.
        mask: optional, bool `(batch, timesteps)`. Only `do_layer_norm` uses it.

    Returns:
        `(batch, timesteps, output_dim)`.

    Masking:
        An incoming mask goes on to the next layer.

    Raises:
        InputTypeError: an argument is of another type, or the input not of floats.
        InputValueError: the input is of another rank, its number of layers is unknown, or
            `initial_scalar_parameters` has another length, or no softmax.

    Example:
        >>> ScalarMix()(tf.random.normal((2, 7, 3, 1024))).shape
        TensorShape([2, 7, 1024])

    Reference:
        Peters et al. 2018, equation 1; AllenNLP 2.10.1, `allennlp.modules.scalar_mix`.
    """

    def __init__(
        self,
        do_layer_norm: bool = False,
        initial_scalar_parameters: Sequence[float] | None = None,
        mix_regularizer: Any = None,
        trainable: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(trainable=trainable, **kwargs)
        self.supports_masking = True
        check_boolean("do_layer_norm", do_layer_norm)
        self.do_layer_norm = bool(do_layer_norm)
        self.initial_scalar_parameters = numbers_of_layers("initial_scalar_parameters", initial_scalar_parameters)
        self.mix_regularizer = keras.regularizers.get(mix_regularizer)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        if len(input_shape) not in (4, 5) or not input_shape[-2]:
            raise InputValueError(
                "`inputs` must have shape (batch, timesteps, num_layers, output_dim), or the same with "
                "(batch, passages, timesteps, ...), and a known num_layers of at least 1. "
                f"Received: shape {tuple(input_shape)}."
            )
        num_layers = input_shape[-2]
        initial = self.initial_scalar_parameters
        if initial is None:
            initial = [0.0] * num_layers
        if len(initial) != num_layers:
            raise InputValueError(
                f"`initial_scalar_parameters` must have one number for each of the {num_layers} layers. "
                f"Received: {initial}. `ElmoEmbedding` calls them `scalar_mix_parameters`."
            )
        # No autocast: a softmax of bfloat16 parameters would be coarser than the mix itself.
        self.scalar_parameters = self.add_weight(
            name="scalar_parameters",
            shape=(num_layers,),
            initializer=lambda shape, dtype: ops.convert_to_tensor(initial, dtype=dtype),
            regularizer=self.mix_regularizer,
            autocast=False,
        )
        self.gamma = self.add_weight(name="gamma", shape=(), initializer="ones", autocast=False)

    def call(self, inputs: Any, mask: Any = None) -> Any:
        dtype = keras.backend.standardize_dtype(inputs.dtype)
        if "float" not in dtype:  # as integers all weights would be 0
            raise InputTypeError(
                f"`inputs` must be layers of floats. Received: dtype {dtype}. Give what `ElmoEmbedding` with "
                '`output_mode="all"` or stored features have, or cast it with `keras.ops.cast`.'
            )
        # Not `ops.softmax`: Keras warns when there is one layer to mix.
        weights = ops.cast(self.gamma * ops.exp(ops.log_softmax(self.scalar_parameters)), inputs.dtype)
        layers = ops.unstack(inputs, inputs.shape[-2], axis=-2)
        if self.do_layer_norm:
            layers = [_normalise(layer, mask) for layer in layers]
        mixture = weights[0] * layers[0]
        for index, layer in enumerate(layers[1:], start=1):
            mixture += weights[index] * layer
        return mixture

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (*input_shape[:-2], input_shape[-1])

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "do_layer_norm": self.do_layer_norm,
            "initial_scalar_parameters": self.initial_scalar_parameters,
            "mix_regularizer": keras.regularizers.serialize(self.mix_regularizer),
        }


def _normalise(layer: Any, mask: Any) -> Any:
    """Zero mean and unit variance over the unmasked elements of the whole batch, as AllenNLP has it."""
    dtype = keras.backend.standardize_dtype(layer.dtype)
    if dtype != "float64":  # half precision cannot even count a batch's elements
        layer = ops.cast(layer, "float32")
    known = ops.ones_like(layer[..., :1]) if mask is None else ops.cast(mask, layer.dtype)[..., None]
    count = ops.sum(known) * layer.shape[-1]
    mean = ops.divide_no_nan(ops.sum(layer * known), count)
    variance = ops.divide_no_nan(ops.sum(ops.square((layer - mean) * known)), count)
    return ops.cast((layer - mean) / ops.sqrt(variance + 1e-13), dtype)
