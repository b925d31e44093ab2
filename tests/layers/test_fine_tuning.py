"""`requires_grad=True`: true gradients, in whatever way they are asked for."""

import threading
from collections.abc import Callable

import keras
import numpy as np
import pytest
import tensorflow as tf
import torch
from layers.harness import SENTENCES, assert_close, ids
from layers.tuning import IDS, assert_all_close, gradients, live_graphs, loss, tiny_model, tunable, values

from bridge import ElmoConfig, ElmoEmbedding
from bridge.errors import UnsupportedError

ANY_IDS = tf.TensorSpec((None, None, 50), tf.int32)
Way = Callable[[ElmoEmbedding], list[tf.Tensor]]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> ElmoConfig:
    return tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def tuned(tiny: ElmoConfig) -> ElmoEmbedding:
    """In float64. No test trains it."""
    return tunable(tiny, dtype="float64")


@pytest.mark.slow
@pytest.mark.parametrize("in_graph", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_gradients_are_finite_differences(training: bool, in_graph: bool, tuned: ElmoEmbedding) -> None:
    """Along one random direction for each weight, in float64."""
    compute = tf.function(gradients) if in_graph else gradients
    generator, step = np.random.default_rng(0), 1e-6
    for weight, gradient in zip(values(tuned), compute(tuned, IDS, training), strict=True):
        assert gradient.dtype == weight.dtype == tf.float64
        assert np.abs(gradient).max() > 1e-4, f"{weight.name} silently does not train"
        direction = generator.normal(size=weight.shape)
        ends = []
        for sign in (1, -1):
            weight.assign_add(sign * step * direction)
            ends.append(float(loss(tuned)))
            weight.assign_sub(sign * step * direction)
        slope = (ends[0] - ends[1]) / (2 * step)
        np.testing.assert_allclose(np.sum(gradient * direction), slope, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("in_graph", [False, True])
def test_the_gradient_is_the_one_that_pytorch_computes(
    in_graph: bool, tuned: ElmoEmbedding, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A deliberately wrong one arrives: nothing else makes the numbers that the other tests compare."""
    compute = tf.function(gradients) if in_graph else gradients
    honest = compute(tuned)
    true_gradient = torch.autograd.grad
    monkeypatch.setattr(torch.autograd, "grad", lambda *args, **kw: tuple(-3 * g for g in true_gradient(*args, **kw)))
    ours = {id(weight) for weight in tuned.bilm.weights}
    factors = [-3 if id(weight) in ours else 1 for weight in tuned.trainable_weights]
    assert_all_close(compute(tuned), [factor * gradient for factor, gradient in zip(factors, honest, strict=True)])


def repeated(layer: ElmoEmbedding) -> list[tf.Tensor]:
    with tf.GradientTape() as tape:
        _, total = tf.while_loop(
            lambda step, total: step < 3,
            lambda step, total: (step + 1, total + loss(layer)),
            (tf.constant(0), tf.constant(0.0, tf.float64)),
        )
    return [gradient / 3 for gradient in tape.gradient(total, values(layer))]


def branched(layer: ElmoEmbedding) -> list[tf.Tensor]:
    with tf.GradientTape() as tape:
        total = tf.cond(tf.reduce_sum(IDS) > 0, lambda: loss(layer), lambda: tf.constant(0.0, tf.float64))
    return tape.gradient(total, values(layer))


def recomputed(layer: ElmoEmbedding) -> list[tf.Tensor]:
    with tf.GradientTape() as tape:
        total = tf.recompute_grad(lambda: loss(layer))()
    return tape.gradient(total, values(layer))


def asked_twice(layer: ElmoEmbedding) -> list[tf.Tensor]:
    with tf.GradientTape(persistent=True) as tape:
        total = loss(layer)
    first = tape.gradient(total, values(layer))
    return [(one + other) / 2 for one, other in zip(first, tape.gradient(total, values(layer)), strict=True)]


def used_twice(layer: ElmoEmbedding) -> list[tf.Tensor]:
    with tf.GradientTape() as tape:
        total = loss(layer) + 2 * loss(layer)
    return [gradient / 3 for gradient in tape.gradient(total, values(layer))]


def as_passages(layer: ElmoEmbedding) -> list[tf.Tensor]:
    return gradients(layer, IDS[tf.newaxis])


def in_old_graphs(layer: ElmoEmbedding) -> list[tf.Tensor]:
    return tf.gradients(loss(layer), [value.handle for value in values(layer)])


WAYS: list[Way] = [repeated, branched, recomputed, asked_twice, used_twice, as_passages]


@pytest.mark.slow
@pytest.mark.parametrize("way", [*WAYS, *map(tf.function, [*WAYS, in_old_graphs])], ids=lambda way: way.__name__)
def test_every_way_to_ask(way: Way, tuned: ElmoEmbedding) -> None:
    wanted = gradients(tuned)
    assert_all_close(way(tuned), wanted)
    assert live_graphs(tuned) == 0


@pytest.mark.slow
@pytest.mark.parametrize("in_graph", [False, True])
def test_jacobian(in_graph: bool, tuned: ElmoEmbedding) -> None:
    weight = tuned.bilm.weights[1].value

    def jacobian() -> tf.Tensor:
        with tf.GradientTape(persistent=True) as tape:
            vectors = tf.reshape(tuned(IDS, training=True), [-1])
        return tape.jacobian(vectors, weight)

    rows = (tf.function(jacobian) if in_graph else jacobian)()
    with tf.GradientTape() as tape:
        total = loss(tuned)
    factors = tf.cos(tf.range(len(rows), dtype=tf.float64))
    assert_close(tf.tensordot(factors, rows, 1), tape.gradient(total, weight), 1e-10)
    del tape
    assert live_graphs(tuned) == 0


@pytest.mark.parametrize("in_graph", [False, True])
def test_the_gradient_of_a_gradient_is_refused(in_graph: bool, tuned: ElmoEmbedding) -> None:
    """It would silently be another number."""

    @tf.autograph.experimental.do_not_convert
    def penalty() -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            norm = tf.linalg.global_norm(gradients(tuned))
        return tape.gradient(norm, values(tuned))

    with pytest.raises(UnsupportedError, match="a loss must not depend on the biLM's own gradient"):
        (tf.function(penalty) if in_graph else penalty)()
    assert live_graphs(tuned) == 0


@pytest.mark.parametrize("training", [False, True])
def test_a_tape_remembers_the_weights_that_it_saw(training: bool, tiny: ElmoConfig) -> None:
    """The variables' memory is shared with PyTorch: an optimizer's update in place must not reach into a graph."""
    layer = tunable(tiny)
    with tf.GradientTape(persistent=True) as tape:
        total = loss(layer, training=training)
    before = [gradient.numpy().copy() for gradient in tape.gradient(total, values(layer))]
    keras.optimizers.SGD(0.1).apply([tf.ones_like(value) for value in values(layer)], layer.trainable_weights)
    assert_all_close(tape.gradient(total, values(layer)), before, 0)


@pytest.mark.parametrize("in_graph", [False, True])
def test_passes_do_not_change_gradients(in_graph: bool, tiny: ElmoConfig) -> None:
    layer = tunable(tiny, dtype="float64")
    whole = gradients(layer)
    layer.encoder.max_tokens_per_pass = 1
    assert_all_close((tf.function(gradients) if in_graph else gradients)(layer), whole)


def test_a_mask_cuts_gradients_too(tuned: ElmoEmbedding) -> None:
    mask = tf.constant([[True, True, False], [True, False, False]])
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(tuned(IDS, mask=mask, training=True) ** 2)
    cut = ids([SENTENCES[0][:2], SENTENCES[1]])
    with tf.GradientTape() as other_tape:
        other = tf.reduce_sum(tuned(cut, training=True) ** 2)
    assert_all_close(tape.gradient(total, values(tuned)), other_tape.gradient(other, values(tuned)))


@pytest.mark.parametrize("shape", [(0, 3), (0, 0), (2, 0), (2, 3)])
@pytest.mark.parametrize("in_graph", [False, True])
def test_nothing_to_read_gives_zeros(in_graph: bool, shape: tuple[int, int], tuned: ElmoEmbedding) -> None:
    compute = tf.function(gradients) if in_graph else gradients
    found = compute(tuned, tf.zeros((*shape, 50), tf.int32))
    assert all(not np.any(gradient) for gradient in found)


@pytest.mark.slow
def test_threads_do_not_disturb_each_other(tuned: ElmoEmbedding) -> None:
    batches = [tf.constant(ids([["w" * (index + 1)] * (index + 1)])) for index in range(4)]
    wanted = [gradients(tuned, batch) for batch in batches]
    in_graph = tf.function(lambda batch: gradients(tuned, batch), input_signature=[ANY_IDS])
    found: dict[int, list[tf.Tensor]] = {}

    def work(index: int) -> None:
        for _ in range(5):
            found[index] = in_graph(batches[index % 4]) if index < 4 else gradients(tuned, batches[index % 4])

    threads = [threading.Thread(target=work, args=(index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index in range(8):
        assert_all_close(found[index], wanted[index % 4])
