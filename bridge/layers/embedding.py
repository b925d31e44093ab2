"""ELMo as a layer of a Keras model: `ElmoEmbedding`."""

from __future__ import annotations

import inspect
import os
from collections.abc import Sequence
from typing import Any, Literal

import keras
import tensorflow as tf

from bridge.checks import check_boolean, check_integer, check_keywords
from bridge.encoder.arguments import Engine, State
from bridge.encoder.encoder import ElmoEncoder
from bridge.encoder.linear import Precision
from bridge.encoder.warm_up import WARM_UP_SHA256
from bridge.errors import InputValueError, UnsupportedError
from bridge.layers.bilm import ElmoBiLm
from bridge.layers.building import build_once
from bridge.layers.casts import check_cast_character_ids
from bridge.layers.character_ids import CharacterIds
from bridge.layers.exports import refuse_export
from bridge.layers.fixed_arguments import FixedArguments
from bridge.layers.gpu_memory import share_gpu_memory
from bridge.layers.inputs import check_are_tensors, check_inputs, fit_length, is_string, with_known_rank
from bridge.layers.representations import ElmoRepresentations, OutputMode
from bridge.layers.saved_weights import config_of, saved_checkpoint
from bridge.layers.scalar_mix import ScalarMix
from bridge.resources.checkpoint import Checkpoint
from bridge.resources.config import ElmoConfig
from bridge.text.characters import MAX_CHARACTERS_PER_TOKEN

OF_KERAS = ("name", "dtype", "trainable", "activity_regularizer")
# Arguments that `ElmoRepresentations` keeps for the layer.
OF_REPRESENTATIONS = (
    "output_mode",
    "num_output_representations",
    "do_layer_norm",
    "dropout",
    "scalar_mix_parameters",
    "mix_regularizer",
    "pooling",
    "seed",
)


@keras.saving.register_keras_serializable(package="elmo_keras_bridge")
class ElmoEmbedding(FixedArguments, keras.layers.Layer):
    """Contextual word vectors from AllenNLP's ELMo.

    The biLM runs in PyTorch. It is frozen, or its parameters are Keras variables and train with the model. The mix of
    its layers is a native Keras layer, `scalar_mix`, whose weights train, save and show in `summary()` like any
    other. Arguments that AllenNLP's `Elmo` has mean what they mean there.

    Args:
        config: which weights: what `ElmoConfig.load` accepts, or an open `Checkpoint`.
        output_mode: `"elmo"` is the learned mix of all layers, `"top"` the last LSTM layer, `"average"` the mean
            of all layers, `"all"` every layer, ready for `ScalarMix`.
        num_output_representations: how many outputs, each with a mix of its own. More than one give a list.
        requires_grad: fine-tune the biLM: its parameters become Keras variables, float32 (float64 under that policy).
        do_layer_norm: see `ScalarMix`. Its statistics run over the whole batch and the sentence boundaries, so
            vectors then depend on the other sentences of the batch.
        dropout: rate of the dropout on the output, in training only.
        scalar_mix_parameters: fixes the mix at these numbers (before the softmax), one a layer; it never trains.
        mix_regularizer: Keras regularizer of the mix's numbers before the softmax.
        keep_sentence_boundaries: keep the vectors of the begin and end of the sentence.
        pooling: `"mean"` averages the vectors of a sentence's tokens, and of the boundaries that are kept; a sentence
            without tokens gets zeros.
        max_sequence_length: pad and truncate every batch to so many tokens, in training and inference alike.
        embed_weights: write the two weight files into every saved `.keras` file, which then needs no others. With
            `requires_grad` the biLM is in it anyway.
        seed: of the dropout.
        state, engine, precision, device: see `ElmoEncoder`. With `state="carry"` a `fit` that shuffles is refused.
        **kwargs: `name`, `dtype` and so on, as for every Keras layer.

    Call arguments:
        inputs: string tokens `(batch, timesteps)` with `""` as padding, or integer character ids
            `(batch, timesteps, 50)` with rows of zeros as padding; padding comes after the tokens. Either may have one
            more axis, `(batch, passages, timesteps, ...)`.
        mask: optional bool `(batch, timesteps)`; what it masks counts as padding. It may only cut the end of a
            row. An incoming Keras mask is used likewise.

    Returns:
        `(batch, timesteps, output_dim)` of the layer's compute dtype, zeros at padding; with `output_mode="all"`
        `(batch, timesteps, num_layers, output_dim)`; with `pooling` without `timesteps`. `timesteps` grows by 2 with
        `keep_sentence_boundaries`; padding is then not zero with `do_layer_norm`, as in AllenNLP. A list of them with
        several `num_output_representations`.

    Masking:
        The mask `(batch, timesteps)` is true where a token is. With `pooling` there is none, but for passages
        `(batch, passages)`, true where there is a token.

    Raises:
        ConfigError, ResourceNotFoundError, CheckpointError, MissingDependencyError: when the layer is made.
        InputTypeError, InputValueError: rank or dtype are wrong, when the model is built. Wrong values raise the
            same when the layer is called eagerly; in a graph they are `tf.errors.InvalidArgumentError` with the
            same text.
        UnsupportedError: an argument is set after the layer was made.
        ProcessError: this, or any `tf.function`, is called in a process that was forked after the layer was made.

    Example:
        >>> model = keras.Sequential([
        ...     keras.Input((None,), dtype="string"),
        ...     ElmoEmbedding("demo", pooling="mean"),
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
        config: str | os.PathLike[str] | ElmoConfig | Checkpoint | None = None,
        *,
        output_mode: OutputMode = "elmo",
        num_output_representations: int = 1,
        requires_grad: bool = False,
        do_layer_norm: bool = False,
        dropout: float = 0.5,
        scalar_mix_parameters: Sequence[float] | None = None,
        mix_regularizer: Any = None,
        keep_sentence_boundaries: bool = False,
        pooling: Literal["mean"] | None = None,
        max_sequence_length: int | None = None,
        embed_weights: bool = False,
        seed: int | None = None,
        state: State = "zero",
        engine: Engine = "auto",
        precision: Precision = "float32",
        device: str | int | None = None,
        **kwargs: Any,
    ) -> None:
        known = inspect.signature(ElmoEmbedding).parameters.keys() - {"kwargs"}
        check_keywords("ElmoEmbedding", kwargs, [*sorted(known), *OF_KERAS])
        share_gpu_memory(device)  # before Keras makes a variable
        # No autocast: a float policy would turn the id 257 into 256.
        super().__init__(autocast=False, **kwargs)
        check_boolean("requires_grad", requires_grad)
        check_boolean("do_layer_norm", do_layer_norm)
        check_boolean("keep_sentence_boundaries", keep_sentence_boundaries)
        check_boolean("embed_weights", embed_weights)
        if max_sequence_length is not None:
            check_integer("max_sequence_length", max_sequence_length, minimum=1, maximum=2**31 - 1)
        self.supports_masking = True
        self.supports_jit = False  # XLA cannot compile a call into PyTorch
        given = config.config if isinstance(config, Checkpoint) else config
        self.config = os.fspath(given) if isinstance(given, os.PathLike) else given
        self.requires_grad = bool(requires_grad)
        self.keep_sentence_boundaries = bool(keep_sentence_boundaries)
        self.max_sequence_length = None if max_sequence_length is None else int(max_sequence_length)
        self.embed_weights = bool(embed_weights)
        self.state, self.engine, self.precision = state, engine, precision

        self._character_ids = CharacterIds(name="character_ids")
        self.representations = ElmoRepresentations(
            output_mode,
            num_output_representations,
            do_layer_norm,
            dropout,
            scalar_mix_parameters,
            mix_regularizer,
            # The mix comes before the boundaries are dropped: layer norm counts them.
            drop_boundaries=bool(do_layer_norm) and not self.keep_sentence_boundaries,
            keep_boundaries=self.keep_sentence_boundaries,
            pooling=pooling,
            seed=seed,
            trainable=self.trainable,
            dtype=self.dtype_policy,
            name="representations",
        )
        self.bilm = ElmoBiLm(
            config,
            requires_grad=self.requires_grad,
            keep_sentence_boundaries=self.keep_sentence_boundaries or self.representations.drop_boundaries,
            embed_weights=self.embed_weights,
            state=state,
            engine=engine,
            precision=precision,
            device=device,
            trainable=self.trainable,
            dtype=self.dtype_policy,
            name="bilm",
        )
        self.device = device if device is None or isinstance(device, str) else str(self.encoder.device)
        parameters = self.representations.scalar_mix_parameters
        if parameters is not None and len(parameters) != self.checkpoint.num_layers:
            raise InputValueError(
                f"`scalar_mix_parameters` must have one number for each of the {self.checkpoint.num_layers} layers. "
                f"Received: {parameters}."
            )
        self._fixed_arguments = frozenset(known)

    @property
    def encoder(self) -> ElmoEncoder:
        """The PyTorch side; `encoder.module` is AllenNLP's `Elmo`, whose biLM has parameters with
        `engine="allennlp"` alone, and none of its own if `requires_grad`."""
        return self.bilm.encoder

    @property
    def checkpoint(self) -> Checkpoint:
        """The weights in use; with `requires_grad` those that the training began with."""
        return self.encoder.checkpoint

    @property
    def scalar_mixes(self) -> list[ScalarMix]:
        """The mix of each output, with `output_mode="elmo"`."""
        return self.representations.scalar_mixes

    @property
    def scalar_mix(self) -> Any:
        """The mix of the first output; None without `output_mode="elmo"`."""
        return self.scalar_mixes[0] if self.scalar_mixes else None

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        build_once(self.bilm, (None, None, MAX_CHARACTERS_PER_TOKEN))
        build_once(self.representations, (None, None, self.checkpoint.num_layers, self.checkpoint.output_dim))

    @tf.autograph.experimental.do_not_convert  # AutoGraph would keep the layer alive
    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        check_are_tensors(inputs, args[0] if args else kwargs.get("mask"))
        return super().__call__(with_known_rank(inputs), *args, **kwargs)

    def call(self, inputs: tf.Tensor, mask: tf.Tensor | None = None, training: bool | None = None) -> Any:
        self.encoder.check_process()  # before TensorFlow computes: it hangs in a forked child, too
        check_inputs(inputs, mask)
        char_ids = self._character_ids(inputs) if is_string(inputs) else check_cast_character_ids(inputs)
        layers = self.bilm(
            self._fit_length(char_ids, axis=-2),
            mask=None if mask is None else self._fit_length(mask, axis=-1),
            training=training,
        )
        return self.representations(layers, mask=self._token_mask(inputs, mask), training=training)

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        if isinstance(inputs, keras.KerasTensor):
            return None  # of a symbolic input; the mask of a real one is computed when the model runs
        return self.representations.compute_mask(None, self._token_mask(inputs, previous_mask))

    def _token_mask(self, inputs: tf.Tensor, mask: tf.Tensor | None) -> tf.Tensor:
        """Bool `(batch, timesteps)` of what comes out of the biLM."""
        tokens = tf.not_equal(inputs, "") if is_string(inputs) else tf.reduce_any(inputs != 0, axis=-1)
        if mask is not None:
            tokens &= tf.cast(mask, tf.bool)
        tokens = self._fit_length(tokens, axis=-1)
        if self.encoder.keep_sentence_boundaries:  # every row has two more, which come before its padding
            tokens = tf.pad(tokens, [[0, 0]] * (tokens.shape.rank - 1) + [[2, 0]], constant_values=True)
        return tokens

    def _fit_length(self, values: tf.Tensor, axis: int) -> tf.Tensor:
        return values if self.max_sequence_length is None else fit_length(values, self.max_sequence_length, axis)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> Any:
        # What ends in 50 is taken for character ids: a shape alone does not tell passages of strings apart.
        is_ids = len(input_shape) == 4 or (len(input_shape) == 3 and input_shape[-1] == MAX_CHARACTERS_PER_TOKEN)
        features = self._features_shape(input_shape[:-1] if is_ids else input_shape)
        return self.representations.compute_output_shape(features)

    def features_shape(self, inputs: Any) -> tuple[int | None, ...]:
        """Shape of all biLM layers, `(batch, timesteps, num_layers, output_dim)`, for a (symbolic) input."""
        return self._features_shape(inputs.shape if is_string(inputs) else inputs.shape[:-1])

    def _features_shape(self, tokens_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        *leading, timesteps = tokens_shape
        timesteps = self.max_sequence_length or timesteps
        if timesteps is not None and self.encoder.keep_sentence_boundaries:
            timesteps += 2
        return (*leading, timesteps, self.checkpoint.num_layers, self.checkpoint.output_dim)

    def compute_output_spec(self, inputs: Any, mask: Any = None, training: Any = None) -> Any:
        check_inputs(inputs, mask)
        shapes = self.representations.compute_output_shape(self.features_shape(inputs))
        if isinstance(shapes, list):
            return [keras.KerasTensor(shape, dtype=self.compute_dtype) for shape in shapes]
        return keras.KerasTensor(shapes, dtype=self.compute_dtype)

    def reset_states(self) -> None:
        """Forgets what `state="carry"` carried."""
        self.encoder.reset_states()

    def get_config(self) -> dict[str, Any]:
        representations = self.representations.get_config()
        config = {
            **super().get_config(),
            "config": self.config.to_dict() if isinstance(self.config, ElmoConfig) else self.config,
            **{name: representations[name] for name in OF_REPRESENTATIONS},
            "requires_grad": self.requires_grad,
            "keep_sentence_boundaries": self.keep_sentence_boundaries,
            "max_sequence_length": self.max_sequence_length,
            "embed_weights": self.embed_weights,
            "state": self.state,
            "engine": self.engine,
            "precision": self.precision,
            "device": self.device,
            "fingerprint": self.bilm.fingerprint,
        }
        if self.bilm.holds_weights:  # without the options they could not be read
            config["options"] = self.checkpoint.options.model_dump(mode="json")
        if self.state == "warm":
            config["warm_up_sha256"] = WARM_UP_SHA256
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> ElmoEmbedding:
        """Makes the layer of a saved model.

        The weights are those with the saved fingerprint: where the config says, else where the environment says, else
        the saved model's own.

        Raises:
            ResourceNotFoundError: they are not there. Nothing is downloaded.
            CheckpointError: there are other weights than those that the layer was saved with.
            UnsupportedError: the layer started from the state of another warm-up text.
        """
        config = dict(config)
        fingerprint, options = config.pop("fingerprint", None), config.pop("options", None)
        if config.pop("warm_up_sha256", WARM_UP_SHA256) != WARM_UP_SHA256:
            raise UnsupportedError(
                'A model with `state="warm"` must be loaded by a version of this package with the warm-up text that it '
                "was trained with. Received: a model of another version. Install that one, or train the model again."
            )
        source = config_of(config.get("config"))
        checkpoint, missing = saved_checkpoint(source, fingerprint, options)
        layer = cls(**{**config, "config": checkpoint})
        object.__setattr__(layer, "config", source)  # as it was given, not the checkpoint that it led to
        if missing is not None:
            layer.bilm.fingerprint, layer.bilm.missing_weights = fingerprint, missing
        return layer

    def _trackable_children(self, save_type: str = "checkpoint", **kwargs: Any) -> dict[str, Any]:
        if save_type == "savedmodel":
            refuse_export()
        return super()._trackable_children(save_type, **kwargs)
