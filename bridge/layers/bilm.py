"""The biLM as a Keras layer, character ids to all of its layers: `ElmoBiLm`."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from bridge.encoder.arguments import Engine, State
from bridge.encoder.encoder import ElmoEncoder
from bridge.encoder.linear import Precision
from bridge.errors import BridgeError, CheckpointError, InputValueError
from bridge.layers.adapter import EncoderAdapter
from bridge.layers.fine_tuning import FineTuningAdapter
from bridge.layers.saved_weights import OPTIONS_FILE, WEIGHT_FILE, keep_copy, open_folder
from bridge.layers.shuffling import check_order_is_kept


class ElmoBiLm(keras.layers.Layer):
    """The part of `ElmoEmbedding` that runs in PyTorch, and the weights that go with it.

    Args:
        config, requires_grad, embed_weights, state, engine, precision, device: see `ElmoEmbedding`.
        keep_sentence_boundaries: keep the vectors of the begin and end of the sentence.
        **kwargs: `name`, `dtype` and so on, as for every Keras layer.

    Call arguments:
        char_ids: integers `(batch, timesteps, 50)` or `(batch, passages, timesteps, 50)`.
        mask: optional bool, true where a token is: the shape of `char_ids` without its last axis.
        training: keeps PyTorch's graph for the gradients, with `requires_grad`.

    Returns:
        `(batch, timesteps, num_layers, output_dim)` or `(batch, passages, timesteps, ...)`: float32, or float64 with
        `requires_grad` under a float64 policy.

    Attributes:
        missing_weights: the error that every call raises, while a layer of a saved model still waits for its weights.
    """

    def __init__(
        self,
        config: Any,
        *,
        requires_grad: bool,
        keep_sentence_boundaries: bool,
        embed_weights: bool,
        state: State,
        engine: Engine,
        precision: Precision,
        device: str | int | None,
        **kwargs: Any,
    ) -> None:
        # No autocast: a float policy would turn the id 257 into 256.
        super().__init__(autocast=False, **kwargs)
        if requires_grad and (engine == "fused" or precision != "float32"):
            raise InputValueError(
                '`requires_grad=True` must have `engine` "auto" or "allennlp" and `precision` "float32": only '
                f"AllenNLP's own biLM can be trained. Received: {engine!r} and {precision!r}. Leave both out."
            )
        self.supports_masking = True
        self.supports_jit = False  # XLA cannot compile a call into PyTorch
        self.requires_grad = requires_grad
        self.embed_weights = embed_weights
        self.missing_weights: BridgeError | None = None
        self._encoder_arguments: dict[str, Any] = {
            "state": state,
            # Gradients go through AllenNLP's own.
            "engine": "allennlp" if requires_grad and engine == "auto" else engine,
            "precision": precision,
            "device": device,
            "keep_sentence_boundaries": keep_sentence_boundaries,
        }
        self._frozen = EncoderAdapter(ElmoEncoder(config, **self._encoder_arguments))
        self._trained: FineTuningAdapter | None = None
        self._parameters: dict[str, Any] = {}
        # Now: the files may change or go before the model is saved.
        self.fingerprint = self.encoder.checkpoint.fingerprint

    @property
    def encoder(self) -> ElmoEncoder:
        """The PyTorch side."""
        return self._frozen.encoder

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        if not self.requires_grad or self._trained is not None:
            return
        # Half precision is for activations: weights that train need more.
        dtype = "float64" if self.variable_dtype == "float64" else "float32"
        for name, values in self.encoder.release_parameters().items():
            self._parameters[name] = self.add_weight(
                name=name,
                shape=values.shape,
                dtype=dtype,
                initializer=lambda shape, dtype, values=values: tf.constant(values, dtype),
                autocast=False,
            )
            # TensorFlow's checkpoints find attributes, and nothing in a dict.
            setattr(self, name.replace(".", "_"), self._parameters[name])
        self._trained = FineTuningAdapter(self.encoder, list(self._parameters))

    def call(self, char_ids: tf.Tensor, mask: tf.Tensor | None = None, training: bool | None = None) -> tf.Tensor:
        if self.missing_weights is not None:
            raise type(self.missing_weights)(str(self.missing_weights))
        if self.encoder.state == "carry":
            check_order_is_kept(self)
        *leading, timesteps, width = tf.unstack(tf.shape(char_ids))
        static = char_ids.shape
        if len(leading) > 1:
            rows = tf.reduce_prod(leading)
            char_ids = tf.reshape(char_ids, [rows, timesteps, width])
            char_ids.set_shape([None, *static[-2:]])
            mask = None if mask is None else tf.reshape(mask, [rows, timesteps])
        layers = self._run(char_ids, mask, bool(training))
        if len(leading) > 1:
            shape = layers.shape[1:]
            layers = tf.reshape(layers, tf.concat([leading, tf.shape(layers)[1:]], axis=0))
            layers.set_shape([*static[:-2], *shape])
        return layers

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> None:
        return None  # the layers around this one keep the mask

    def _run(self, char_ids: tf.Tensor, mask: tf.Tensor | None, training: bool) -> tf.Tensor:
        if self._trained is None:
            return self._frozen(char_ids, mask)
        parameters = [tf.convert_to_tensor(variable.value) for variable in self._parameters.values()]
        layers = self._trained(char_ids, mask, parameters, training and self.trainable)
        return layers if self.trainable else tf.stop_gradient(layers)

    @property
    def holds_weights(self) -> bool:
        """Whether a saved file needs no other to be loaded."""
        return self.embed_weights or self._variables_suffice

    @property
    def _variables_suffice(self) -> bool:
        # A warm state is that of the weights before they were trained.
        return self.requires_grad and self.encoder.state != "warm"

    def load_own_variables(self, store: Any) -> None:
        super().load_own_variables(store)
        if self._variables_suffice:
            self.missing_weights = None

    def save_assets(self, folder: str) -> None:
        """Copies both weight files into the folder, which goes into the `.keras` file.

        Raises:
            CheckpointError: they are not there any more, or others.
        """
        if not self.embed_weights or self._variables_suffice:
            return
        source = self.encoder.checkpoint
        try:
            shutil.copyfile(source.options_file, Path(folder) / OPTIONS_FILE)
            shutil.copyfile(source.weight_file, Path(folder) / WEIGHT_FILE)
            received = open_folder(Path(folder)).fingerprint
        except (FileNotFoundError, CheckpointError) as error:
            received = str(error)
        if received != self.fingerprint:
            raise CheckpointError(
                "With `embed_weights=True` both weight files must still be what they were when the layer was made, of "
                f"fingerprint {self.fingerprint}. Received: {source.config}, now {received}. Put them back, and save "
                "again."
            )

    def load_assets(self, folder: str) -> None:
        """Takes over both weight files of a `.keras` file, where they were not found outside of it.

        Raises:
            CheckpointError: they are others than those that were saved.
        """
        if self.missing_weights is None or not self.embed_weights:
            return
        checkpoint = keep_copy(Path(folder))
        if checkpoint.fingerprint != self.fingerprint:
            raise CheckpointError(
                f"The weights inside a saved model must have its fingerprint {self.fingerprint}. Received: "
                f"{checkpoint.fingerprint}. The file is damaged: save the model again."
            )
        self._frozen = EncoderAdapter(ElmoEncoder(checkpoint, **self._encoder_arguments))
        if self.requires_grad:
            self.encoder.release_parameters()  # the trained ones are variables
            self._trained = FineTuningAdapter(self.encoder, list(self._parameters))
        self.missing_weights = None
