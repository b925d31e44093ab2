"""ELMo as a layer of a Keras model: `ElmoEmbedding`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Literal

import keras
import tensorflow as tf

from bridge.checks import check_choice, check_integer
from bridge.encoder.encoder import ElmoEncoder, Engine, State
from bridge.errors import CheckpointError, InputValueError, ResourceNotFoundError, UnsupportedError
from bridge.layers.adapter import EncoderAdapter
from bridge.layers.character_ids import CharacterIds
from bridge.layers.inputs import check_is_tensor, check_mask, check_tokens_or_ids, is_string, shape_of
from bridge.layers.scalar_mix import ScalarMix
from bridge.resources.checkpoint import Checkpoint
from bridge.resources.config import ElmoConfig
from bridge.text.characters import MAX_CHARACTERS_PER_TOKEN

OutputMode = Literal["elmo", "top", "average", "all"]


@keras.saving.register_keras_serializable(package="elmo_keras_bridge")
class ElmoEmbedding(keras.layers.Layer):
    """Contextual word vectors from AllenNLP's ELMo.

    The biLM is frozen and runs in PyTorch. The mix of its layers is a native Keras layer, `scalar_mix`, whose
    weights train, save and show in `summary()` like any other. Arguments that AllenNLP's `Elmo` has mean what
    they mean there.

    Args:
        config: which weights: what `ElmoConfig.load` accepts.
        output_mode: `"elmo"` is the learned mix of all layers, `"top"` the last LSTM layer, `"average"` the mean
            of all layers, `"all"` every layer, ready for `ScalarMix`.
        do_layer_norm: see `ScalarMix`. Its statistics run over the whole batch and the sentence boundaries, so
            vectors then depend on the other sentences of the batch.
        dropout: rate of the dropout on the output, in training only.
        scalar_mix_parameters: fixes the mix at these numbers (before the softmax), one a layer; nothing trains.
        keep_sentence_boundaries: keep the vectors of the begin and end of the sentence.
        max_sequence_length: pad and truncate every batch to so many tokens, in training and inference alike.
        state, engine, device: see `ElmoEncoder`.
        **kwargs: `name`, `dtype` and so on, as for every Keras layer.

    Call arguments:
        inputs: string tokens `(batch, timesteps)` with `""` as padding, or integer character ids
            `(batch, timesteps, 50)` with rows of zeros as padding; padding comes after the tokens.
        mask: optional bool `(batch, timesteps)`; what it masks counts as padding. It may only cut the end of a
            row. An incoming Keras mask is used likewise.

    Returns:
        `(batch, timesteps, output_dim)` of the layer's compute dtype, zeros at padding; with `output_mode="all"`
        `(batch, timesteps, num_layers, output_dim)`. `timesteps` grows by 2 with `keep_sentence_boundaries`; padding
        is then not zero with `do_layer_norm`, as in AllenNLP.

    Masking:
        The mask `(batch, timesteps)` is true where a token is.

    Raises:
        ConfigError, ResourceNotFoundError, CheckpointError, MissingDependencyError: when the layer is made.
        InputTypeError, InputValueError: rank or dtype are wrong, when the model is built. Wrong values raise the
            same when the layer is called eagerly; in a graph they are `tf.errors.InvalidArgumentError` with the
            same text.

    Example:
        >>> model = keras.Sequential([
        ...     keras.Input((None,), dtype="string"),
        ...     ElmoEmbedding("demo"),
        ...     keras.layers.GlobalAveragePooling1D(),
        ...     keras.layers.Dense(1, activation="sigmoid"),
        ... ])
        >>> model.save("model.keras")
        >>> # In another process, import the layer first: `from bridge import ElmoEmbedding`.
        >>> model = keras.models.load_model("model.keras")

    Reference:
        Peters et al. 2018, "Deep contextualized word representations"; AllenNLP 2.10.1, `allennlp.modules.elmo`.
    """

    def __init__(
        self,
        config: str | os.PathLike[str] | ElmoConfig | None = None,
        *,
        output_mode: OutputMode = "elmo",
        do_layer_norm: bool = False,
        dropout: float = 0.5,
        scalar_mix_parameters: Sequence[float] | None = None,
        keep_sentence_boundaries: bool = False,
        max_sequence_length: int | None = None,
        state: State = "zero",
        engine: Engine = "auto",
        device: str | int | None = None,
        **kwargs: Any,
    ) -> None:
        # No autocast: a float policy would turn the id 257 into 256.
        super().__init__(autocast=False, **kwargs)
        check_choice("output_mode", output_mode, OutputMode)
        if isinstance(dropout, bool) or not isinstance(dropout, int | float) or not 0 <= dropout <= 1:
            raise InputValueError(f"`dropout` must be a rate from 0 to 1. Received: {dropout!r}.")
        if max_sequence_length is not None:
            check_integer("max_sequence_length", max_sequence_length, minimum=1)
        if output_mode != "elmo" and (do_layer_norm or scalar_mix_parameters is not None):
            raise InputValueError(
                '`do_layer_norm` and `scalar_mix_parameters` belong to the mix of `output_mode="elmo"`. Received: '
                f"one of them beside output_mode={output_mode!r}. Leave it out, or mix the layers of "
                '`output_mode="all"` with a `ScalarMix` of your own.'
            )
        self.supports_masking = True
        self.supports_jit = False  # XLA cannot compile a call into PyTorch
        self.config = config if config is None or isinstance(config, ElmoConfig) else os.fspath(config)
        self.output_mode = output_mode
        self.do_layer_norm = do_layer_norm
        self.scalar_mix_parameters = (
            None if scalar_mix_parameters is None else [float(value) for value in scalar_mix_parameters]
        )
        self.keep_sentence_boundaries = keep_sentence_boundaries
        self.max_sequence_length = None if max_sequence_length is None else int(max_sequence_length)
        self.state, self.engine = state, engine

        # The mix comes before the boundaries are dropped: layer norm counts them.
        self._drop_boundaries = do_layer_norm and not keep_sentence_boundaries
        encoder = ElmoEncoder(
            self.config,
            state=state,
            engine=engine,
            device=device,
            keep_sentence_boundaries=keep_sentence_boundaries or self._drop_boundaries,
        )
        if scalar_mix_parameters is not None and len(scalar_mix_parameters) != encoder.num_layers:
            raise InputValueError(
                f"`scalar_mix_parameters` must have one number for each of the {encoder.num_layers} layers. "
                f"Received: {self.scalar_mix_parameters}."
            )
        self.device = None if device is None else str(encoder.device)
        # Now: the files may change or go before the model is saved.
        self._fingerprint = encoder.checkpoint.fingerprint
        self._elmo = EncoderAdapter(encoder)
        self._character_ids = CharacterIds(name="character_ids")
        self._dropout = keras.layers.Dropout(dropout, dtype=self.dtype_policy, name="dropout")
        # In float32 under a mixed policy too: only the result is cast.
        self.scalar_mix: Any = (
            ScalarMix(
                do_layer_norm,
                scalar_mix_parameters,
                # Keras asks the weights, not this layer, which of them train.
                trainable=self.trainable and scalar_mix_parameters is None,
                dtype=self.variable_dtype,
                name="scalar_mix",
            )
            if output_mode == "elmo"
            else None
        )

    @property
    def encoder(self) -> ElmoEncoder:
        """The PyTorch side; `encoder.module` is the live AllenNLP `Elmo`."""
        return self._elmo.encoder

    @property
    def checkpoint(self) -> Checkpoint:
        """The weights in use."""
        return self.encoder.checkpoint

    @property
    def trainable(self) -> bool:
        """Whether the layer trains. A mix that `scalar_mix_parameters` fixes never does."""
        return super().trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        # Keras passes it on to every layer inside: thawing a model would thaw the fixed mix.
        keras.layers.Layer.trainable.fset(self, value)
        if self.scalar_mix is not None and self.scalar_mix_parameters is not None:
            self.scalar_mix.trainable = False

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        if self.scalar_mix is not None:
            self.scalar_mix.build((None, None, self.checkpoint.num_layers, self.checkpoint.output_dim))

    @tf.autograph.experimental.do_not_convert  # AutoGraph would keep the layer alive
    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        check_is_tensor(inputs)
        return super().__call__(_with_known_rank(inputs), *args, **kwargs)

    def call(self, inputs: tf.Tensor, mask: tf.Tensor | None = None, training: bool | None = None) -> tf.Tensor:
        check_tokens_or_ids(inputs)
        check_mask(mask, inputs)
        char_ids = self._character_ids(inputs) if is_string(inputs) else inputs
        char_ids = self._fit_length(char_ids)
        layers = self._elmo(char_ids, None if mask is None else self._fit_length(mask))
        if self.output_mode == "top":
            output = layers[:, :, -1]
        elif self.output_mode == "average":
            output = tf.reduce_mean(layers, axis=2)
        elif self.output_mode == "all":
            output = layers
        else:
            tokens = self._token_mask(inputs, mask)
            output = self.scalar_mix(layers, mask=_with_boundaries(tokens) if self._drop_boundaries else tokens)
            if self._drop_boundaries:
                output = output[:, 1:-1] * tf.cast(tokens, output.dtype)[..., tf.newaxis]
        return self._dropout(tf.cast(output, self.compute_dtype), training=training)

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> tf.Tensor | None:
        if isinstance(inputs, keras.KerasTensor):
            return None  # of a symbolic input; the mask of a real one is computed when the model runs
        return self._token_mask(inputs, previous_mask)

    def _token_mask(self, inputs: tf.Tensor, mask: tf.Tensor | None) -> tf.Tensor:
        """Bool `(batch, timesteps)` of the output."""
        tokens = tf.not_equal(inputs, "") if is_string(inputs) else tf.reduce_any(inputs != 0, axis=-1)
        if mask is not None:
            tokens &= tf.cast(mask, tf.bool)
        tokens = self._fit_length(tokens)
        return _with_boundaries(tokens) if self.keep_sentence_boundaries else tokens

    def _fit_length(self, values: tf.Tensor) -> tf.Tensor:
        """Pads and truncates the timesteps to `max_sequence_length`."""
        if self.max_sequence_length is None:
            return values
        values = values[:, : self.max_sequence_length]
        missing = self.max_sequence_length - tf.shape(values)[1]
        padded = tf.pad(values, [[0, 0], [0, missing]] + [[0, 0]] * (values.shape.rank - 2))
        return tf.ensure_shape(padded, [values.shape[0], self.max_sequence_length, *values.shape[2:]])

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        batch, timesteps = input_shape[:2]
        timesteps = self.max_sequence_length or timesteps
        if timesteps is not None and self.keep_sentence_boundaries:
            timesteps += 2
        layers = (self.checkpoint.num_layers,) if self.output_mode == "all" else ()
        return (batch, timesteps, *layers, self.checkpoint.output_dim)

    def compute_output_spec(self, inputs: Any, mask: Any = None, training: Any = None) -> keras.KerasTensor:
        check_tokens_or_ids(inputs)
        check_mask(mask, inputs)
        return keras.KerasTensor(self.compute_output_shape(inputs.shape), dtype=self.compute_dtype)

    def reset_states(self) -> None:
        """Forgets what `state="carry"` carried."""
        self.encoder.reset_states()

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "config": self.config.to_dict() if isinstance(self.config, ElmoConfig) else self.config,
            "output_mode": self.output_mode,
            "do_layer_norm": self.do_layer_norm,
            "dropout": self._dropout.rate,
            "scalar_mix_parameters": self.scalar_mix_parameters,
            "keep_sentence_boundaries": self.keep_sentence_boundaries,
            "max_sequence_length": self.max_sequence_length,
            "state": self.state,
            "engine": self.engine,
            "device": self.device,
            "fingerprint": self._fingerprint,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> ElmoEmbedding:
        """Makes the layer of a saved model.

        Raises:
            ResourceNotFoundError: the config leads to no weights.
            CheckpointError: the config leads to other weights than those that the layer was saved with.
        """
        config = dict(config)
        fingerprint = config.pop("fingerprint", None)
        if isinstance(config.get("config"), dict):
            config["config"] = ElmoConfig(**config["config"])
        try:
            layer = cls(**config)
        except ResourceNotFoundError as error:
            raise ResourceNotFoundError(
                "A saved model needs the ELMo weights that it was trained on, where `config` says. Received: "
                f"config={config.get('config')!r} from the saved model. {error} A relative path is relative to the "
                "working directory: load the model from where it was made, or put the files there again."
            ) from error
        if fingerprint not in (None, layer._fingerprint):
            raise CheckpointError(
                "A saved model must be loaded with the ELMo weights that it was trained on, of fingerprint "
                f"{fingerprint}. Received: {layer.checkpoint.config}, of fingerprint "
                f"{layer._fingerprint}. Put the original files back, or retrain the model."
            )
        return layer

    def _trackable_children(self, save_type: str = "checkpoint", **kwargs: Any) -> dict[str, Any]:
        if save_type == "savedmodel":
            raise UnsupportedError(
                "A model with ElmoEmbedding can't be exported as a SavedModel: the call into PyTorch exists in this "
                "process only, and the export would fail or run another function elsewhere. Use `model.save` with "
                "a `.keras` file, or train the head on ELMo features and export the head."
            )
        return super()._trackable_children(save_type, **kwargs)


def _with_known_rank(inputs: Any) -> Any:
    """A dataset may not know the rank of its elements, which Keras needs; their dtype tells."""
    if shape_of(inputs) is not None:
        return inputs
    return tf.ensure_shape(inputs, [None, None] if is_string(inputs) else [None, None, MAX_CHARACTERS_PER_TOKEN])


def _with_boundaries(tokens: tf.Tensor) -> tf.Tensor:
    """The mask after both sentence boundaries were added: every row has two more, at its begin."""
    return tf.pad(tokens, [[0, 0], [2, 0]], constant_values=True)
