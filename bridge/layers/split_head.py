"""A model's head without its ELMo: `split_head`."""

from __future__ import annotations

from typing import Any

import keras

from bridge.errors import InputTypeError, InputValueError, UnsupportedError
from bridge.layers.embedding import ElmoEmbedding


def split_head(model: keras.Model) -> keras.Model:
    """Returns what follows the biLM of a model, as a plain Keras model that takes ELMo features.

    The head holds the mix and every layer behind it, and no PyTorch: it can be exported, converted, compiled by XLA and
    served in processes that have TensorFlow alone. It shares its layers with `model`: training one trains the other.

    Args:
        model: functional or Sequential, with one `ElmoEmbedding` that is called once.

    Returns:
        A model of the input `elmo_features`, `(batch, timesteps, num_layers, output_dim)` (with passages `(batch,
        passages, timesteps, ...)`), and of the inputs of `model` that do not go through ELMo alone. Features
        are all layers of the biLM, zeros at padding: those of `ElmoEmbedding(config, output_mode="all", dropout=0.0)`,
        of an `ElmoEncoder` with the same `state` and `keep_sentence_boundaries`, or, where the biLM was fine-tuned, of
        the layer's own `bilm(char_ids)`.

    Raises:
        InputTypeError: `model` is not a Keras model.
        InputValueError: it is neither functional nor a built Sequential model, or has not one ElmoEmbedding at its top
            level, called once.
        UnsupportedError: the layer has `do_layer_norm`: its vectors depend on whole batches, which features do not.

    Example:
        >>> head = split_head(model)
        >>> head.export("head")  # a SavedModel
    """
    if not isinstance(model, keras.Model):
        raise InputTypeError(f"`model` must be a Keras model. Received: {model!r:.80} of type {type(model).__name__}.")
    if not getattr(model, "outputs", None):
        raise InputValueError(
            "`model` must be a functional model, or a Sequential one that begins with a `keras.Input`. Received: a "
            f"{type(model).__name__} without a graph. Export the part of it that follows its ElmoEmbedding yourself."
        )
    layers = [layer for layer in model.layers if isinstance(layer, ElmoEmbedding)]
    if len(layers) != 1:
        raise InputValueError(
            f"`model` must have one ElmoEmbedding at its top level. Received: {len(layers)} in {model.name!r}. Split "
            "the model inside it that has one."
        )
    [elmo] = layers
    if elmo.representations.do_layer_norm:
        raise UnsupportedError(
            "A head with `do_layer_norm=True` can't be split from its ELMo: the statistics run over the sentences of "
            "a batch and their boundaries, so that stored features would give other vectors. Train with "
            "`do_layer_norm=False`."
        )
    return _Split(elmo).head(model)


class _Split:
    """Calls the layers of a model once more, from the features on."""

    def __init__(self, elmo: ElmoEmbedding) -> None:
        self.elmo = elmo
        self.features: Any = None
        self.other_inputs: list[Any] = []
        # By the id of a tensor of the model: the tensor of the head.
        self.tensors: dict[int, Any] = {}

    def head(self, model: keras.Model) -> keras.Model:
        # A Sequential model has no `output` until it is called.
        original = model.outputs[0] if isinstance(model, keras.Sequential) else model.output
        outputs = keras.tree.map_structure(self.tensor, original)
        if self.features is None:
            raise InputValueError(
                f"`model` must use its ElmoEmbedding. Received: {model.name!r}, whose outputs do not depend on it."
            )
        inputs = [self.features, *self.other_inputs] if self.other_inputs else self.features
        return keras.Model(inputs, outputs, name=f"{model.name}_head")

    def tensor(self, original: Any) -> Any:
        """The head's tensor for one of the model's."""
        if id(original) not in self.tensors:
            layer, node_index, _ = original._keras_history
            node = layer._inbound_nodes[node_index]
            if layer is self.elmo:
                results = self._representations(node)
            elif node.is_input:
                self.other_inputs.append(original)
                results = original
            else:
                for argument in node.input_tensors:
                    self.tensor(argument)
                args, kwargs = node.arguments.fill_in(self.tensors)
                results = layer(*args, **kwargs)
            for old, new in zip(node.output_tensors, keras.tree.flatten(results), strict=True):
                self.tensors[id(old)] = new
        return self.tensors[id(original)]

    def _representations(self, node: Any) -> Any:
        if self.features is not None:
            raise InputValueError(
                f"`model` must call its ElmoEmbedding once. Received: several calls of {self.elmo.name!r}. Split a "
                "model of one branch."
            )
        shape = self.elmo.features_shape(node.input_tensors[0])
        self.features = keras.Input(shape[1:], name="elmo_features", dtype="float32")
        return self.elmo.representations(self.features)
