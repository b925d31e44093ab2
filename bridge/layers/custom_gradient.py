"""`tf.custom_gradient`, without its leak of graphs."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import tensorflow as tf
from tensorflow.python.framework import ops
from tensorflow.python.framework.func_graph import FuncGraph


def custom_gradient(function: Callable[..., Any]) -> Callable[..., Any]:
    """A `tf.custom_gradient` whose graphs are freed with their `tf.function`.

    TensorFlow's own registers the gradient of each graph for the life of the process, and with it the graph and the
    memory of every variable in it: for a training step, all weights of the model and of its optimizer. Here the
    registry holds the gradient weakly, and the graph holds it.
    """
    decorated = tf.custom_gradient(function)

    def call(*arguments: tf.Tensor) -> Any:
        result = decorated(*arguments)
        if not tf.executing_eagerly():
            operation = tf.nest.flatten(result)[0].op
            _hold_weakly(operation.get_attr("_gradient_op_type").decode(), operation.graph)
        return result

    return call


def _hold_weakly(name: str, graph: Any) -> None:
    """Hands the registered gradient over to the outermost graph: the inner ones of loops and branches may go before."""
    gradient = ops.gradient_registry.lookup(name)
    reference: Callable[[], Any] = weakref.ref(gradient)

    def look_up(*arguments: Any) -> Any:
        return reference()(*arguments)

    ops.gradient_registry._registry.pop(name)
    tf.RegisterGradient(name)(look_up)
    weakref.finalize(gradient, ops.gradient_registry._registry.pop, name, None).atexit = False
    while isinstance(getattr(graph, "outer_graph", None), FuncGraph):
        graph = graph.outer_graph
    graph._elmo_gradients = [*getattr(graph, "_elmo_gradients", []), gradient]
