"""From all layers of the biLM to ELMo's representations, in Keras alone: `ElmoRepresentations`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from bridge.checks import check_boolean, check_choice, check_integer, numbers_of_layers
from bridge.errors import InputValueError
from bridge.layers.scalar_mix import ScalarMix

OutputMode = Literal["elmo", "top", "average", "all"]


@keras.saving.register_keras_serializable(package="elmo_keras_bridge")
class ElmoRepresentations(keras.layers.Layer):
    """The part of `ElmoEmbedding` that follows the biLM: mix, dropped boundaries, pooling and dropout.

    Pure Keras, so that a head which is split from its ELMo can be exported with it.

    Args:
        output_mode, num_output_representations, do_layer_norm, dropout, seed, scalar_mix_parameters,
            mix_regularizer, pooling: see `ElmoEmbedding`.
        drop_boundaries: whether the input has sentence boundaries that the output must not have.
        keep_boundaries: whether it has sentence boundaries that stay.
        **kwargs: `name`, `dtype` and so on, as for every Keras layer.

    Call arguments:
        inputs: `(batch, timesteps, num_layers, output_dim)`, or `(batch, passages, ...)`.
        mask: optional bool `(batch, timesteps)`, true where a token or boundary is. Without one, what is not zero
            is a token.

    Returns:
        See `ElmoEmbedding`.

    Masking:
        The mask goes on to the next layer, without the boundaries that were dropped. Pooling takes the timesteps away:
        then the mask `(batch, passages)` is true where a passage has a token, and without passages there is none.

    Raises:
        InputTypeError, InputValueError: an argument is out of its range, or belongs to another `output_mode`.
    """

    def __init__(
        self,
        output_mode: OutputMode = "elmo",
        num_output_representations: int = 1,
        do_layer_norm: bool = False,
        dropout: float = 0.5,
        scalar_mix_parameters: Sequence[float] | None = None,
        mix_regularizer: Any = None,
        drop_boundaries: bool = False,
        keep_boundaries: bool = False,
        pooling: Literal["mean"] | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        # No autocast: under a mixed policy the mix is float32, and only its result is cast.
        super().__init__(autocast=False, **kwargs)
        check_choice("output_mode", output_mode, OutputMode)
        check_integer("num_output_representations", num_output_representations, minimum=1)
        check_boolean("do_layer_norm", do_layer_norm)
        if isinstance(dropout, bool) or not isinstance(dropout, int | float | np.number) or not 0 <= dropout <= 1:
            raise InputValueError(f"`dropout` must be a rate from 0 to 1. Received: {dropout!r}.")
        if seed is not None:
            check_integer("seed", seed, minimum=0)
        if pooling is not None:
            check_choice("pooling", pooling, Literal["mean"])
        of_the_mix = {
            "num_output_representations": num_output_representations > 1,
            "do_layer_norm": do_layer_norm,
            "scalar_mix_parameters": scalar_mix_parameters is not None,
            "mix_regularizer": mix_regularizer is not None,
        }
        if output_mode != "elmo" and any(of_the_mix.values()):
            listed = ", ".join(f"`{name}`" for name, given in of_the_mix.items() if given)
            raise InputValueError(
                f"{listed} must be left out without a mix. Received: output_mode={output_mode!r}, which has none. "
                'Use `output_mode="elmo"`, or mix the layers of `output_mode="all"` with a `ScalarMix` of your own.'
            )
        if scalar_mix_parameters is not None and mix_regularizer is not None:
            raise InputValueError(
                "`mix_regularizer` must be left out beside `scalar_mix_parameters`. Received: both. A fixed mix does "
                "not train; give initial numbers and a regularizer to a `ScalarMix` of your own."
            )
        self.supports_masking = True
        self.output_mode = output_mode
        self.num_output_representations = int(num_output_representations)
        self.do_layer_norm = bool(do_layer_norm)
        self.scalar_mix_parameters = numbers_of_layers("scalar_mix_parameters", scalar_mix_parameters)
        self.mix_regularizer = keras.regularizers.get(mix_regularizer)
        self.drop_boundaries = drop_boundaries
        self.keep_boundaries = keep_boundaries
        self.pooling = pooling
        self.seed = None if seed is None else int(seed)
        self._dropout = keras.layers.Dropout(float(dropout), seed=self.seed, dtype=self.dtype_policy, name="dropout")
        self._mix_names: tuple[str, ...] = ()
        if output_mode == "elmo":
            several = num_output_representations > 1
            self._mix_names = tuple(
                f"scalar_mix_{k}" if several else "scalar_mix" for k in range(num_output_representations)
            )
        for name in self._mix_names:
            mix = ScalarMix(
                self.do_layer_norm,
                self.scalar_mix_parameters,
                self.mix_regularizer,
                # Keras asks the weights, not this layer, which of them train.
                trainable=self.trainable and self.scalar_mix_parameters is None,
                dtype=self.variable_dtype,
                name=name,
            )
            setattr(self, name, mix)  # not in a list: TensorFlow's checkpoints would miss it

    @property
    def scalar_mixes(self) -> list[ScalarMix]:
        """The mix of each output."""
        return [getattr(self, name) for name in self._mix_names]

    @property
    def trainable(self) -> bool:
        """Whether the layer trains. A mix that `scalar_mix_parameters` fixes never does."""
        return super().trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        # Keras passes it on to every layer inside: thawing a model would thaw the fixed mix.
        keras.layers.Layer.trainable.fset(self, value)
        if self.scalar_mix_parameters is not None:
            for mix in self.scalar_mixes:
                mix.trainable = False

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        for mix in self.scalar_mixes:
            mix.build(input_shape)

    def call(self, inputs: Any, mask: Any = None, training: bool | None = None) -> Any:
        if mask is None:
            mask = _nonzero(inputs)
        if self.output_mode == "top":
            outputs = [inputs[..., -1, :]]
        elif self.output_mode == "average":
            outputs = [ops.mean(inputs, axis=-2)]
        elif self.output_mode == "all":
            outputs = [inputs]
        else:
            outputs = [mix(inputs, mask=mask) for mix in self.scalar_mixes]
        outputs = [self._finish(output, mask, training) for output in outputs]
        return outputs if len(outputs) > 1 else outputs[0]

    def _finish(self, output: Any, mask: Any, training: bool | None) -> Any:
        """`output` is `(..., timesteps, output_dim)`, or `(..., timesteps, num_layers, output_dim)`."""
        layers = 1 if self.output_mode == "all" else 0
        if self.drop_boundaries:
            output = output[..., 1:-1, :]
            # This drops the last step, which is the boundary of the longest row only.
            mask = mask[..., 2:]
            output *= ops.cast(mask, output.dtype)[..., None]
        if self.pooling == "mean":
            if self.keep_boundaries:  # a sentence of nothing else has no mean
                mask = ops.logical_and(mask, ops.any(mask[..., 2:], axis=-1, keepdims=True))
            tokens = ops.cast(mask, output.dtype)[(..., *[None] * (layers + 1))]
            axis = -2 - layers
            output = ops.divide_no_nan(ops.sum(output * tokens, axis=axis), ops.sum(tokens, axis=axis))
        return self._dropout(ops.cast(output, self.compute_dtype), training=training)

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        if isinstance(inputs, keras.KerasTensor):
            return None  # of a symbolic input; the mask of a real one is computed when the model runs
        mask = _nonzero(inputs) if previous_mask is None else previous_mask
        if self.drop_boundaries or (self.keep_boundaries and self.pooling is not None):
            mask = mask[..., 2:]
        if self.pooling is not None:
            mask = ops.any(mask, axis=-1) if len(mask.shape) > 2 else None
        return mask if self.num_output_representations == 1 else [mask] * self.num_output_representations

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> Any:
        *leading, timesteps, num_layers, output_dim = input_shape
        if timesteps is not None and self.drop_boundaries:
            timesteps -= 2
        steps = () if self.pooling else (timesteps,)
        layers = (num_layers,) if self.output_mode == "all" else ()
        shape = (*leading, *steps, *layers, output_dim)
        return shape if self.num_output_representations == 1 else [shape] * self.num_output_representations

    def compute_output_spec(self, inputs: Any, mask: Any = None, training: Any = None) -> Any:
        shapes = self.compute_output_shape(inputs.shape)
        if self.num_output_representations == 1:
            return keras.KerasTensor(shapes, dtype=self.compute_dtype)
        return [keras.KerasTensor(shape, dtype=self.compute_dtype) for shape in shapes]

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "output_mode": self.output_mode,
            "num_output_representations": self.num_output_representations,
            "do_layer_norm": self.do_layer_norm,
            "dropout": self._dropout.rate,
            "scalar_mix_parameters": self.scalar_mix_parameters,
            "mix_regularizer": keras.regularizers.serialize(self.mix_regularizer),
            "drop_boundaries": self.drop_boundaries,
            "keep_boundaries": self.keep_boundaries,
            "pooling": self.pooling,
            "seed": self.seed,
        }


def _nonzero(layers: Any) -> Any:
    """The mask of layers that come without one: padding is zero in all of them."""
    return ops.any(ops.not_equal(layers, 0), axis=(-2, -1))
