"""The crossing between TensorFlow and PyTorch with gradients: an `ElmoEncoder` whose parameters train in Keras."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf
import torch

from bridge.encoder.encoder import ElmoEncoder
from bridge.errors import ProcessError, UnsupportedError
from bridge.layers.adapter import activations_shape
from bridge.layers.custom_gradient import custom_gradient
from bridge.layers.tensors import tensor_with_farewell, to_tensorflow, to_torch
from bridge.python_calls import counted, while_process_lives


class _Graph(NamedTuple):
    """A forward pass that PyTorch can differentiate."""

    activations: torch.Tensor
    parameters: list[torch.Tensor]


class FineTuningAdapter:
    """Calls an encoder with parameters from TensorFlow, differentiable by them.

    In training the forward pass keeps PyTorch's graph until TensorFlow frees the tensor that stands for it, after the
    gradients or when nobody can ask for them any more. Outside training no graph is made; a gradient that is
    asked for all the same computes the forward pass again.

    In eager mode both passes are called directly, in graphs they are `tf.py_function`s, which hold the encoder weakly.

    Args:
        encoder: one whose parameters were released.
        names: of the parameters.

    Call arguments:
        char_ids: integer tensor `(batch, timesteps, 50)`.
        mask: optional bool tensor `(batch, timesteps)`.
        parameters: tensors, in the order of `names`, all float32 or all float64.
        training: whether to keep the graph.

    Returns:
        `(batch, timesteps, num_layers, output_dim)` of the parameters' dtype.
    """

    def __init__(self, encoder: ElmoEncoder, names: Sequence[str]) -> None:
        self.encoder = encoder
        passes = _Passes(encoder, names)
        # Functions for the life of the adapter: TensorFlow keeps every function it is given.
        self._forward = {True: passes.forward_with_graph, False: passes.forward}
        self._backward = passes.backward

    def __call__(
        self, char_ids: tf.Tensor, mask: tf.Tensor | None, parameters: Sequence[tf.Tensor], training: bool
    ) -> tf.Tensor:
        # With "carry" there is no second forward pass: it would start from another state.
        forward = self._forward[training or self.encoder.state == "carry"]
        backward, dtype = self._backward, parameters[0].dtype
        char_ids = while_process_lives(char_ids)
        inputs = [char_ids] if mask is None else [char_ids, mask]
        shape = activations_shape(self.encoder, char_ids)

        # Everything is an argument, the ids too: captured tensors fail inside `tf.while_loop` and `tf.cond`.
        @custom_gradient
        def bilm(*arguments: tf.Tensor) -> tuple[tf.Tensor, Callable[..., list[tf.Tensor | None]]]:
            activations, graph = _call(forward, arguments, [dtype, tf.int64])
            activations.set_shape(shape)

            def gradient(upstream: tf.Tensor) -> list[tf.Tensor | None]:
                return [None] * len(inputs) + by_parameter(graph, upstream, *arguments)

            return activations, gradient

        # Without a gradient of its own, that of a gradient would silently be another number.
        @custom_gradient
        def by_parameter(*arguments: tf.Tensor) -> tuple[list[tf.Tensor], Callable[..., Any]]:
            gradients = list(_call(backward, arguments, [dtype] * len(parameters)))
            for value, parameter in zip(gradients, parameters, strict=True):
                value.set_shape(parameter.shape)
            return gradients, _refuse

        return bilm(*inputs, *parameters)


def _refuse(*upstream: tf.Tensor) -> list[tf.Tensor]:
    raise UnsupportedError(
        "With `requires_grad=True` a loss must not depend on the biLM's own gradient: PyTorch computes it out of "
        "TensorFlow's sight. Received: the gradient of a gradient, as in a gradient penalty, a Hessian or a "
        "`ForwardAccumulator`. Use `requires_grad=False`, or `tf.stop_gradient` on the inner gradient."
    )


def _call(function: Callable[..., Any], arguments: Sequence[tf.Tensor], dtypes: list[tf.DType]) -> list[tf.Tensor]:
    if tf.executing_eagerly():
        return function(*arguments)
    # TensorFlow's own: inside of a gradient and a loop a graph can't look at anything but its arguments. They wait.
    return tf.py_function(function, arguments, dtypes, name="elmo")


class _Passes:
    """The functions that TensorFlow calls. They hold the encoder weakly, so that it goes when its layer goes."""

    def __init__(self, encoder: ElmoEncoder, names: Sequence[str]) -> None:
        self._encoder = weakref.ref(encoder)
        self._names = list(names)
        self._graphs: dict[int, _Graph] = {}
        self._numbers = itertools.count(1)

    @counted
    def forward_with_graph(self, *arguments: tf.Tensor) -> list[tf.Tensor]:
        """The activations, and a tensor that stands for PyTorch's graph."""
        graph = self._run(arguments, differentiable=True)
        number = next(self._numbers)
        self._graphs[number] = graph
        handle = tensor_with_farewell(number, self._forget)
        return [to_tensorflow(graph.activations.detach()), handle]

    @counted
    def forward(self, *arguments: tf.Tensor) -> list[tf.Tensor]:
        """The activations, and a 0: there is no graph."""
        return [to_tensorflow(self._run(arguments, differentiable=False).activations), tf.constant(0, tf.int64)]

    @counted
    def backward(self, number: tf.Tensor, upstream: tf.Tensor, *arguments: tf.Tensor) -> list[tf.Tensor]:
        """The gradient by each parameter."""
        graph = self._graphs.get(int(number))
        if graph is None:
            encoder = self._living_encoder()
            if encoder.state == "carry":
                raise ProcessError(
                    'The graph of a forward pass with state="carry" is gone, and it can\'t be run again.'
                )
            graph = self._run(arguments, differentiable=True)
        if not graph.activations.requires_grad:  # of an empty batch
            return [tf.zeros_like(argument) for argument in arguments[-len(self._names) :]]
        # Kept: a persistent tape, or a Jacobian, asks again.
        with torch.inference_mode(False):
            gradients = torch.autograd.grad(
                graph.activations, graph.parameters, to_torch(upstream), retain_graph=True, materialize_grads=True
            )
        return [to_tensorflow(gradient) for gradient in gradients]

    def _run(self, arguments: Sequence[tf.Tensor], differentiable: bool) -> _Graph:
        inputs = [argument.numpy() for argument in arguments[: -len(self._names)]]
        # Modes are a thread's own: neither TensorFlow's threads nor the caller's decide.
        with torch.inference_mode(False), torch.set_grad_enabled(differentiable):
            parameters = [
                to_torch(argument).requires_grad_(differentiable) for argument in arguments[-len(self._names) :]
            ]
            by_name = dict(zip(self._names, parameters, strict=True))
            return _Graph(self._living_encoder().call_with(by_name, *inputs).activations, parameters)

    def _living_encoder(self) -> ElmoEncoder:
        encoder = self._encoder()
        if encoder is None:
            raise ProcessError("The ElmoEmbedding layer of this function was deleted. Keep the layer or its model.")
        return encoder

    def _forget(self, number: int) -> None:
        self._graphs.pop(number, None)
