"""The crossing between TensorFlow and PyTorch: no copy where possible, no abort, no leak, errors with their text."""

import gc
import os
import weakref
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import torch
from layers.harness import MASK, SENTENCES, ids

from bridge import BiLmOutput
from bridge.errors import InputTypeError, InputValueError, ProcessError
from bridge.layers.adapter import EncoderAdapter
from bridge.layers.tensors import ALIGNMENT, to_tensorflow

IDS = tf.constant(ids(SENTENCES))


class FakeEncoder:
    """What the adapter needs of an ElmoEncoder: its output is 1 where a token is."""

    num_layers = 2

    def __init__(self, output_dim: int = 4, keep_sentence_boundaries: bool = False) -> None:
        self.output_dim = output_dim
        self.keep_sentence_boundaries = keep_sentence_boundaries
        self.error: Exception | None = None
        self.calls = 0

    def __call__(self, char_ids: np.ndarray, mask: np.ndarray | None = None) -> BiLmOutput:
        self.calls += 1
        if self.error is not None:
            raise self.error
        is_token = char_ids.any(axis=-1) if mask is None else mask
        boundaries = 2 if self.keep_sentence_boundaries else 0
        steps = torch.nn.functional.pad(torch.from_numpy(is_token), (boundaries, 0), value=True)
        layers = torch.ones(*steps.shape, self.num_layers, self.output_dim) * steps[:, :, None, None]
        return BiLmOutput(layers, steps)


def make_adapter(encoder: FakeEncoder) -> EncoderAdapter:
    return EncoderAdapter(encoder)  # type: ignore[arg-type]  # it quacks


def address(tensor: tf.Tensor) -> int:
    return torch.utils.dlpack.from_dlpack(tf.experimental.dlpack.to_dlpack(tensor)).data_ptr()


def aligned(size: int) -> torch.Tensor:
    """0, 1, 2 ... in memory that TensorFlow accepts, whatever torch's allocator does."""
    buffer = torch.zeros(size + ALIGNMENT)
    start = -buffer.data_ptr() % ALIGNMENT // buffer.element_size()
    tensor = buffer[start : start + size]
    tensor.copy_(torch.arange(size))
    return tensor


SHARED: dict[str, Callable[[], torch.Tensor]] = {
    "plain": lambda: aligned(24).view(2, 3, 4),
    "scalar": lambda: aligned(1)[0],
    "a step of size 1 with an odd stride": lambda: aligned(8).as_strided((4, 1, 2), (2, 33, 1)),
    "a view at an aligned offset": lambda: aligned(64)[ALIGNMENT // 4 :],
}
COPIED: dict[str, Callable[[], torch.Tensor]] = {
    # TensorFlow aborts the process on the first of these, and refuses the others.
    "misaligned": lambda: aligned(25)[1:],
    "transposed": lambda: aligned(24).view(4, 6).T,
    "every second": lambda: aligned(24)[::2],
    "expanded": lambda: aligned(1).expand(5),
    "no rows": lambda: torch.zeros(0, 3, 4),
    "no steps, transposed": lambda: torch.zeros(3, 0, 2).transpose(0, 1),
}


@pytest.mark.parametrize("case", SHARED)
def test_aligned_memory_is_shared(case: str) -> None:
    tensor = SHARED[case]()
    crossed = to_tensorflow(tensor)
    assert address(crossed) == tensor.data_ptr()
    np.testing.assert_array_equal(crossed, tensor)


@pytest.mark.parametrize("case", COPIED)
def test_any_other_memory_is_copied(case: str) -> None:
    tensor = COPIED[case]()
    crossed = to_tensorflow(tensor)
    assert tuple(crossed.shape) == tuple(tensor.shape)
    values = tensor.numpy().copy()
    if tensor.numel():
        tensor.as_strided((1,), (1,)).fill_(-1)
    np.testing.assert_array_equal(crossed, values)


def test_shared_memory_outlives_the_torch_tensor() -> None:
    tensor = aligned(1000)
    crossed = to_tensorflow(tensor)
    del tensor
    gc.collect()
    others = [torch.full((1000,), -1.0) for _ in range(50)]  # would reuse freed memory
    np.testing.assert_array_equal(crossed, np.arange(1000))
    del others


def test_eager_calls_are_direct(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eager `tf.py_function` leaks its output."""
    monkeypatch.delattr(tf, "py_function")
    adapter = make_adapter(FakeEncoder())
    np.testing.assert_array_equal(adapter(IDS)[:, :, 0, 0], MASK)


def test_graph_calls_are_one_py_function() -> None:
    adapter = make_adapter(FakeEncoder())
    graph = tf.function(adapter).get_concrete_function(IDS)
    assert [op.name for op in graph.graph.get_operations() if op.type == "EagerPyFunc"] == ["elmo"]
    np.testing.assert_array_equal(graph(IDS)[:, :, 0, 0], MASK)


@pytest.mark.parametrize("in_graph", [False, True])
def test_the_mask_is_handed_over(in_graph: bool) -> None:
    cut = tf.constant([[True, False, False], [True, False, False]])
    adapter = make_adapter(FakeEncoder())
    call = tf.function(adapter) if in_graph else adapter
    np.testing.assert_array_equal(call(IDS, cut)[:, :, 0, 0], cut)


@pytest.mark.parametrize("boundaries", [False, True])
@pytest.mark.parametrize(("batch", "timesteps"), [(None, None), (2, None), (None, 3), (2, 3)])
def test_static_shape_in_a_graph(batch: int | None, timesteps: int | None, boundaries: bool) -> None:
    adapter = make_adapter(FakeEncoder(keep_sentence_boundaries=boundaries))
    graph = tf.function(adapter).get_concrete_function(tf.TensorSpec((batch, timesteps, 50), tf.int32))
    steps = None if timesteps is None else timesteps + 2 * boundaries
    assert graph.output_shapes.as_list() == [batch, steps, 2, 4]
    assert graph(IDS).shape == (2, 3 + 2 * boundaries, 2, 4)


def test_static_shape_of_unknown_rank() -> None:
    graph = tf.function(make_adapter(FakeEncoder())).get_concrete_function(tf.TensorSpec(None, tf.int32))
    assert graph.output_shapes.as_list() == [None, None, 2, 4]


def test_a_graph_holds_the_encoder_weakly() -> None:
    encoder = FakeEncoder()
    adapter = make_adapter(encoder)
    graph = tf.function(adapter).get_concrete_function(IDS)
    graph(IDS)
    alive = weakref.ref(encoder)
    del encoder, adapter
    gc.collect()
    assert alive() is None
    with pytest.raises(tf.errors.UnknownError, match="The ElmoEmbedding layer of this function was deleted"):
        graph(IDS)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("in_graph", [False, True])
def test_memory_does_not_grow(in_graph: bool) -> None:
    adapter = make_adapter(FakeEncoder(output_dim=2**14))  # 0.75 MiB a call
    call = tf.function(adapter) if in_graph else adapter
    for _ in range(20):
        call(IDS)
    before = resident_mebibytes()
    for _ in range(300):
        call(IDS)
    assert resident_mebibytes() - before < 60  # 225 if every output stayed


def resident_mebibytes() -> float:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


@pytest.mark.parametrize(
    ("error", "in_graph"),
    [
        (InputValueError("wrong value"), tf.errors.InvalidArgumentError),
        (InputTypeError("wrong type"), tf.errors.InvalidArgumentError),
        (ProcessError("wrong process"), tf.errors.UnknownError),
        (ZeroDivisionError("a bug"), tf.errors.UnknownError),
    ],
)
def test_errors_arrive_with_their_text_and_do_no_harm(error: Exception, in_graph: type[Exception]) -> None:
    encoder = FakeEncoder()
    adapter = make_adapter(encoder)
    graph = tf.function(adapter)
    graph(IDS)
    encoder.error = error
    with pytest.raises(type(error), match=str(error)):
        adapter(IDS)
    with pytest.raises(in_graph, match=str(error)):
        graph(IDS)
    encoder.error = None
    np.testing.assert_array_equal(graph(IDS), adapter(IDS))
