"""An encoder on `SharedWeights` gives AllenNLP's numbers, opens no file, and copies none of the big arrays."""

import pickle
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from encoder.test_linear import Broken
from hypothesis import given, settings
from models import options_dict, random_model
from parity.test_fused import Model, assert_agree, batches, models, stacked

from bridge.encoder import linear
from bridge.encoder.elmo_import import import_elmo
from bridge.encoder.encoder import ElmoEncoder
from bridge.encoder.linear import Linear, Precision, as_tensor, unpacked_operations_work
from bridge.encoder.shared_weights import PreparedWeights, SharedWeights
from bridge.errors import InputValueError
from bridge.pretrain.weights import initial_weights
from bridge.resources.checkpoint import Checkpoint
from bridge.resources.config import ElmoConfig
from bridge.resources.options import ElmoOptions
from bridge.text.characters import batch_to_ids

SENTENCES = [["The", "cat", "sat", "."], [], ["Hello"], ["<S>", "", "é" * 30]]
PRODUCTS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "oneDNN": lambda patch: None,
    "plain products only": lambda patch: patch.setattr(linear, "unpacked_operations_work", lambda: False),
}


def read_only(shared: SharedWeights) -> SharedWeights:
    """As other processes get them."""
    for array in shared.arrays.values():
        array.flags.writeable = False
    return shared


@pytest.mark.slow
@pytest.mark.parametrize("products", PRODUCTS)
@settings(max_examples=15)
@given(model=models(), ids=batches())
def test_the_numbers_are_allennlps(products: str, model: Model, ids: np.ndarray) -> None:
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = model.write(folder)
        shared = read_only(SharedWeights.of(checkpoint))
        allennlp = import_elmo()._ElmoBiLm(checkpoint.options_file, checkpoint.weight_file)
    with pytest.MonkeyPatch.context() as patch:
        PRODUCTS[products](patch)
        encoder = ElmoEncoder(shared, keep_sentence_boundaries=True)  # the files are gone
        assert_agree(encoder(ids), stacked(allennlp(torch.from_numpy(ids).long())))


def test_it_stands_where_a_checkpoint_stands(tmp_path: Path) -> None:
    checkpoint = Checkpoint.open(random_model(tmp_path))
    expected = ElmoEncoder(checkpoint).embed(SENTENCES)
    fingerprint = checkpoint.fingerprint
    for shared in (SharedWeights.of(checkpoint), SharedWeights.of(checkpoint.config)):
        assert (shared.num_layers, shared.output_dim, shared.fingerprint) == (3, 12, fingerprint)
    assert SharedWeights.of(shared).arrays.keys() == shared.arrays.keys()
    shutil.rmtree(tmp_path)
    encoder = ElmoEncoder(shared)
    assert encoder.checkpoint.fingerprint == fingerprint
    for received, wanted in zip(encoder.embed(SENTENCES), expected, strict=True):
        np.testing.assert_allclose(received, wanted, rtol=0, atol=1e-6)


def test_pickled_it_leaves_its_arrays_where_they_are(small: ElmoConfig) -> None:
    shared = SharedWeights.of(small)
    buffers: list[pickle.PickleBuffer] = []
    pickled = pickle.dumps(shared, protocol=5, buffer_callback=buffers.append)
    assert sum(buffer.raw().nbytes for buffer in buffers) == sum(array.nbytes for array in shared.arrays.values())
    again = pickle.loads(pickled, buffers=[buffer.raw().toreadonly() for buffer in buffers])
    assert again.fingerprint == shared.fingerprint
    for name, array in again.arrays.items():
        assert not array.flags.writeable
        assert np.shares_memory(array, shared.arrays[name])
    np.testing.assert_array_equal(
        np.concatenate(ElmoEncoder(again).embed(SENTENCES)), np.concatenate(ElmoEncoder(shared).embed(SENTENCES))
    )


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_is_that_of_a_checkpoint(small: ElmoConfig, precision: Precision) -> None:
    ids = batch_to_ids(SENTENCES)
    received = ElmoEncoder(read_only(SharedWeights.of(small)), precision=precision)(ids).activations
    exact = ElmoEncoder(small)(ids).activations
    difference = (ElmoEncoder(small, precision=precision)(ids).activations - exact).abs().max()
    assert 0 < (received - exact).abs().max() < 1.5 * difference


def test_allennlps_own_bilm_is_refused(small: ElmoConfig) -> None:
    with pytest.raises(InputValueError, match=r'`engine` must be "fused" with SharedWeights.*Received: "allennlp"'):
        ElmoEncoder(SharedWeights.of(small), engine="allennlp")


def without(arrays: dict[str, np.ndarray], name: str, **others: np.ndarray) -> dict[str, np.ndarray]:
    return {key: value for key, value in arrays.items() if key != name} | others


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda arrays: without(arrays, "CNN/W"), "CNN/W: missing"),
        (lambda arrays: without(arrays, "", other=np.ones(1, np.float32)), "other: unknown"),
        (lambda arrays: {**arrays, "CNN/b": arrays["CNN/b"].astype(np.float64)}, r"CNN/b: float64 \(15,\)"),
        (lambda arrays: {**arrays, "CNN_proj/W": arrays["CNN_proj/W"].T}, r"CNN_proj/W: float32 \(15, 6\) with str"),
    ],
)
def test_other_arrays_are_an_error(small: ElmoConfig, change: Callable[[Any], Any], message: str) -> None:
    shared = SharedWeights.of(small)
    arrays = change(dict(shared.arrays))
    with pytest.raises(InputValueError, match=rf"`arrays` must be .* Received: {message}.*SharedWeights\.of"):
        SharedWeights(
            shared.config, shared.options_file, shared.weight_file, shared.options, shared.fingerprint, arrays
        )


def test_preparing_leaves_the_source_alone() -> None:
    options = ElmoOptions.model_validate(options_dict())
    source = initial_weights(options, 0)
    before = {name: values.copy() for name, values in source.items()}
    prepared = PreparedWeights(options, source)
    for array in prepared.values():
        assert array.flags.c_contiguous
        assert array.dtype == np.float32
    for name, values in before.items():
        np.testing.assert_array_equal(source[name], values)


def test_a_tensor_of_read_only_memory_keeps_it_alive() -> None:
    for array in (np.arange(300_000, dtype=np.float32).reshape(3, -1), np.zeros((0, 4), dtype=np.float32)):
        array.flags.writeable = False
        tensor = as_tensor(array)
        assert tensor.shape == array.shape
        assert len(array) == 0 or tensor.data_ptr() == array.ctypes.data
        expected = array.copy()
        del array
        [np.full(300_000, np.nan, dtype=np.float32) for _ in range(10)]
        np.testing.assert_array_equal(tensor, expected)


def test_shared_products_are_made_of_the_very_weights() -> None:
    weight, inputs = torch.randn(7, 5), torch.randn(3, 5)
    shared = Linear(weight, None, "float32", torch.device("cpu"), share=True)
    assert not shared.packed
    weight.fill_(1)
    torch.testing.assert_close(shared(inputs), inputs.sum(dim=1, keepdim=True).expand(3, 7))


@pytest.mark.parametrize("how", ["raises", "no binary", "no bias", "other dtype", "nan", "added twice"])
def test_operations_that_are_wrong_are_not_used(monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    monkeypatch.setattr(torch.ops, "mkldnn", Broken(how))
    assert not unpacked_operations_work.__wrapped__()
    monkeypatch.setattr(torch.ops, "mkldnn", object())  # a PyTorch without them
    assert not unpacked_operations_work.__wrapped__()
    monkeypatch.setattr(linear, "unpacked_operations_work", unpacked_operations_work.__wrapped__)
    weight, inputs, add = torch.randn(7, 5), torch.randn(3, 5), torch.randn(3, 7)
    product = Linear(weight, torch.ones(7), "float32", torch.device("cpu"), share=True)
    torch.testing.assert_close(product(inputs, add), inputs @ weight.t() + 1 + add)


PROGRAM = """
import pickle, re
from pathlib import Path
import numpy as np
import torch
from bridge import ElmoConfig, ElmoEncoder
from bridge.encoder.shared_weights import SharedWeights

torch.set_num_threads({threads})
sentences = [["word%d" % ((row + column) % 8) for column in range(row % 8)] for row in range(40)]  # little scratch

def private():
    rollup = Path("/proc/self/smaps_rollup").read_text()
    return sum(1024 * int(number) for number in re.findall(r"Private_(?:Clean|Dirty):\\s+(\\d+) kB", rollup))

def source():
    if not {shared}:
        return ElmoConfig("model/options.json", "model/weights.hdf5")
    parts = pickle.loads(Path("parts.pickle").read_bytes())
    arrays = {{name: np.load(path, mmap_mode="r") for name, path in parts.pop("arrays").items()}}
    return SharedWeights(**parts, arrays=arrays)

ElmoEncoder("demo").embed(sentences)  # what is loaded and kept once
before = private()
encoder = ElmoEncoder(source(), token_cache_bytes=0)
built = private() - before
vectors = encoder.embed(sentences)
print(built, private() - before)
np.save("vectors.npy", np.concatenate(vectors))
"""


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 2])
def test_another_process_holds_no_copy(tmp_path: Path, run_python: Callable[[str], str], threads: int) -> None:
    """Both processes map the same files; pages that both have read are nobody's private memory."""
    config = random_model(tmp_path / "model", dim=2048, projection_dim=256, n_layers=1, filters=((3, 1024),))
    shared = SharedWeights.of(config)
    size = sum(array.nbytes for array in shared.arrays.values())
    assert size > 45e6
    paths = {}
    for number, (name, array) in enumerate(shared.arrays.items()):
        paths[name] = str(tmp_path / f"{number}.npy")
        np.save(paths[name], array)
    here = [np.load(path, mmap_mode="r") for path in paths.values()]
    sums = [array.sum() for array in here]
    parts = {**shared.__dict__, "arrays": paths}
    (tmp_path / "parts.pickle").write_bytes(pickle.dumps(parts))

    built, used = map(int, run_python(PROGRAM.format(threads=threads, shared=True)).split())
    vectors = np.load(tmp_path / "vectors.npy")
    assert built < size / 8
    assert used < size / 2

    built, _ = map(int, run_python(PROGRAM.format(threads=threads, shared=False)).split())
    assert built > size  # the ordinary encoder's: were it otherwise, we would measure nothing
    np.testing.assert_allclose(vectors, np.load(tmp_path / "vectors.npy"), rtol=0, atol=1e-5)
    assert sums == [array.sum() for array in here]
