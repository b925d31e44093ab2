"""`requires_grad=True`: what trains is told truly, and nothing is left behind: no graph, no second copy, no memory."""

import gc
import os
import re
import weakref
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
import torch
from layers.tuning import IDS, assert_all_close, gradients, live_graphs, regressor, tiny_model, tunable, values
from tensorflow.python.framework import ops
from tensorflow.python.framework.func_graph import FuncGraph
from tensorflow.python.ops import script_ops

from bridge import ElmoConfig, ElmoEmbedding
from bridge.encoder.encoder import ElmoEncoder
from bridge.layers.fine_tuning import _Graph, _Passes

LABELS = np.array([[1.0], [0.0]])


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> ElmoConfig:
    return tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Counts what layers that are made in this test ask of PyTorch."""
    counts: Counter[str] = Counter()

    def count(name: str) -> None:
        original = getattr(_Passes, name)

        def counted(self: _Passes, *arguments: Any, **mode: Any) -> Any:
            counts[name] += 1
            return original(self, *arguments, **mode)

        monkeypatch.setattr(_Passes, name, counted)

    for name in ("forward", "forward_with_graph", "backward", "_run"):
        count(name)
    return counts


def summary(model: keras.Model) -> dict[str, int]:
    """Parameters that train and that do not, as a user reads them."""
    lines: list[str] = []
    model.summary(print_fn=lambda line, **_: lines.append(line), line_length=100)
    found = re.findall(r"(Trainable|Non-trainable) params: ([\d,]+)", "\n".join(lines))
    return {name: int(number.replace(",", "")) for name, number in found}


def test_summary_and_fit_agree_on_what_trains(tiny: ElmoConfig, calls: Counter[str]) -> None:
    """Everything, the mix only, nothing and everything again; and no graph where it is of no use."""
    layer = ElmoEmbedding(tiny, requires_grad=True, dropout=0.0)
    model = regressor(layer)
    bilm = sum(parameter.numel() for parameter in ElmoEncoder(tiny, engine="allennlp").module._elmo_lstm.parameters())
    mix, dense = 2 + 1, 12 + 1

    def check(trains: int, graphs: int) -> None:
        assert summary(model) == {"Trainable": trains, "Non-trainable": bilm + mix + dense - trains}
        before = [weight.numpy() for weight in model.weights]
        calls.clear()
        model.compile(keras.optimizers.SGD(0.1), "mse", run_eagerly=True)
        model.train_on_batch(IDS, LABELS)
        assert (calls["forward_with_graph"], calls["backward"], calls["forward"]) == (graphs, graphs, 1 - graphs)
        assert calls["_run"] == 1, "the graph was gone, and made again"
        for weight, old in zip(model.weights, before, strict=True):
            assert np.any(weight.numpy() != old) == weight.trainable, weight.path

    check(bilm + mix + dense, 1)
    layer.bilm.trainable = False
    check(mix + dense, 0)
    layer.trainable = False
    check(dense, 0)
    layer.trainable = True
    check(bilm + mix + dense, 1)


def test_summary_of_a_fixed_mix_and_of_a_frozen_bilm(tiny: ElmoConfig) -> None:
    frozen = regressor(ElmoEmbedding(tiny))
    assert summary(frozen) == {"Trainable": 3 + 13, "Non-trainable": 0}  # what is not Keras's is not counted
    fixed = regressor(ElmoEmbedding(tiny, requires_grad=True, scalar_mix_parameters=[0, 1]))
    bilm = sum(int(np.prod(weight.shape)) for weight in fixed.layers[1].bilm.weights)
    assert summary(fixed) == {"Trainable": bilm + 13, "Non-trainable": 3}


def test_the_weights_exist_once(tiny: ElmoConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    alive: list[weakref.ref[Any]] = []
    release = ElmoEncoder.release_parameters

    def watched(encoder: ElmoEncoder) -> dict[str, np.ndarray]:
        alive.extend(weakref.ref(parameter) for parameter in encoder.module.parameters())
        released = release(encoder)
        alive.extend(weakref.ref(array) for array in released.values())
        return released

    monkeypatch.setattr(ElmoEncoder, "release_parameters", watched)
    layer = tunable(tiny)
    gradients(layer)
    gc.collect()
    assert len(alive) > 15
    assert not any(reference() is not None for reference in alive)
    assert all(parameter.is_meta for parameter in layer.encoder.module.parameters())
    frozen = ElmoEncoder(tiny, engine="allennlp")
    for weight in layer.bilm.weights:
        np.testing.assert_array_equal(weight, frozen.module._elmo_lstm.get_parameter(weight.name).detach())


def test_gradients_outside_of_training(tiny: ElmoConfig, calls: Counter[str]) -> None:
    """No graph is kept for a gradient that may never be asked for; asked for, it is the same."""
    layer = tunable(tiny, dtype="float64")
    wanted = gradients(layer)
    calls.clear()
    assert_all_close(gradients(layer, training=False), wanted)
    assert calls == {"forward": 1, "backward": 1, "_run": 2}


def test_a_model_that_hands_on_no_training_argument_trains(tiny: ElmoConfig) -> None:
    class Model(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.embed = ElmoEmbedding(tiny, requires_grad=True)

        def call(self, inputs: Any) -> Any:
            return keras.ops.sum(self.embed(inputs)[:, 0], axis=-1, keepdims=True)

    model = Model()
    model.compile(keras.optimizers.SGD(0.1), "mse")
    model.fit(IDS, LABELS, verbose=0)
    first = ElmoEncoder(tiny, engine="allennlp").module._elmo_lstm
    for weight in model.embed.bilm.weights:
        assert np.abs(weight.numpy() - first.get_parameter(weight.name).detach().numpy()).max() > 1e-6, weight.path


@pytest.mark.parametrize("in_graph", [False, True])
def test_errors_leave_no_graph(in_graph: bool, tiny: ElmoConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = tunable(tiny)
    compute = tf.function(gradients) if in_graph else gradients
    wanted = compute(layer)
    with monkeypatch.context() as patch:
        patch.setattr(torch.autograd, "grad", lambda *args, **kwargs: 1 / 0)
        with pytest.raises((ZeroDivisionError, tf.errors.UnknownError), match="division by zero"):
            compute(layer)
    with pytest.raises(ValueError if not in_graph else tf.errors.InvalidArgumentError, match="padding"):
        compute(layer, IDS[:, ::-1])
    assert live_graphs(layer) == 0
    assert_all_close(compute(layer), wanted, 0)


def in_a_graph(layer: ElmoEmbedding) -> None:
    tf.function(gradients)(layer)


def in_a_loop_of_ones_own(layer: ElmoEmbedding) -> None:
    graph = tf.function(layer)
    for training in (True, False):
        with tf.GradientTape() as tape:
            total = tf.reduce_sum(graph(IDS, training=training))
        tape.gradient(total, values(layer))
    assert not script_ops.tape_cache


def unasked(layer: ElmoEmbedding) -> None:
    with tf.GradientTape():
        layer(IDS, training=True)
    tf.function(layer)(IDS, training=True)


def in_keras(layer: ElmoEmbedding) -> None:
    model = regressor(layer)
    model.compile("adam", "mse")
    for step in (model.fit, model.evaluate):
        step(IDS, LABELS, verbose=0)
        assert live_graphs(layer) == 0
    model.predict(IDS, verbose=0)


USES: dict[str, Callable[[ElmoEmbedding], Any]] = {
    "eager": gradients,
    "a graph": in_a_graph,
    "a loop of one's own": in_a_loop_of_ones_own,
    "no gradient": unasked,
    "fit, evaluate, predict": in_keras,
}


@pytest.mark.slow
@pytest.mark.parametrize("use", USES)
def test_everything_goes_with_the_layer(use: str, tiny: ElmoConfig) -> None:
    layer = tunable(tiny)
    registered = set(ops.gradient_registry.list())
    others = [thing for thing in gc.get_objects() if issubclass(type(thing), FuncGraph | _Graph)]
    USES[use](layer)
    assert live_graphs(layer) == 0
    alive = [weakref.ref(layer), weakref.ref(layer.encoder.module), *(weakref.ref(value) for value in values(layer))]
    del layer
    for _ in range(3):  # Keras and TensorFlow tie cycles of cycles
        gc.collect()
    assert not any(reference() is not None for reference in alive)
    left = [thing for thing in gc.get_objects() if issubclass(type(thing), FuncGraph | _Graph)]
    left = [thing for thing in left if not any(thing is other for other in others)]
    if "fit" in use:  # Keras's own trace of a step stays, whatever the model
        left = [thing for thing in left if type(thing) is _Graph]
    else:  # `tf.custom_gradient` would keep the graph, and the memory of its variables
        assert set(ops.gradient_registry.list()) <= registered
    assert not left


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize(("in_graph", "steps", "rows"), [(True, 500, 4), (False, 60, 40)])
def test_steps_do_not_grow_memory(in_graph: bool, steps: int, rows: int, tiny: ElmoConfig) -> None:
    layer = tunable(tiny)
    batch = tf.repeat(IDS, rows // 2, axis=0)

    def step() -> None:
        for weight, gradient in zip(layer.trainable_weights, gradients(layer, batch), strict=True):
            weight.assign_sub(1e-6 * gradient)

    run = tf.function(step) if in_graph else step
    for _ in range(10):
        run()
    before = resident_mebibytes()
    for _ in range(steps):
        run()
    assert resident_mebibytes() - before < 12  # PyTorch's graphs of all steps are several times that
    assert live_graphs(layer) == 0


def resident_mebibytes() -> float:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
