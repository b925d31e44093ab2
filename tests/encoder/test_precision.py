"""Half precision stays close to AllenNLP's float32, is really different from it, and keeps float32 outside."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from encoder.processors import PROCESSORS
from models import random_model

from bridge.encoder.elmo_import import import_elmo
from bridge.encoder.encoder import ElmoEncoder
from bridge.encoder.fused import FusedBiLm
from bridge.encoder.linear import Precision
from bridge.errors import CheckpointError
from bridge.resources.checkpoint import Checkpoint
from bridge.resources.config import ElmoConfig
from bridge.text.characters import batch_to_ids

HALVES: list[Precision] = ["bfloat16", "float16"]
IDS = batch_to_ids([["The", "cat", "sat", "on", "the", "mat"] * 5, [], ["Hello"], ["<S>", "é" * 30, "a", "The"]])
STATES: list[Any] = ["zero", "warm", "carry"]


@pytest.fixture(scope="module")
def ordinary(tmp_path_factory: pytest.TempPathFactory) -> ElmoConfig:
    """Wide enough for its vectors to have a direction, and without clipping."""
    folder = tmp_path_factory.mktemp("ordinary")
    return random_model(folder, dim=64, projection_dim=32, clip=None, filters=((1, 16), (2, 16), (3, 32)), char_dim=8)


@pytest.fixture(params=["this one", "native half precision"])
def processor(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    PROCESSORS[request.param](monkeypatch)
    return request.param


def cosines(received: torch.Tensor, expected: torch.Tensor) -> np.ndarray:
    """Of each half of each layer of each token."""
    first, second = (part.double().unflatten(-1, (2, -1)) for part in (received, expected))
    return torch.nn.functional.cosine_similarity(first, second, dim=-1).numpy()


@pytest.mark.slow
@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("precision", HALVES)
def test_every_token_and_layer_points_the_same_way(
    ordinary: ElmoConfig, precision: Precision, state: Any, processor: str
) -> None:
    arguments = {"state": state, "keep_sentence_boundaries": True}
    half = ElmoEncoder(ordinary, precision=precision, **arguments)
    expected = ElmoEncoder(ordinary, engine="allennlp", **arguments)
    for _ in range(2):
        received, wanted = half(IDS), expected(IDS)
        assert torch.equal(received.mask, wanted.mask)
        assert received.activations.dtype == torch.float32
        assert (cosines(received.activations, wanted.activations)[wanted.mask.numpy()] >= 0.9999).all()
        difference = (received.activations - wanted.activations).abs().amax(dim=(0, 1, 3))
        # Token vectors are float32's; the LSTMs' are not: the products really were rounded.
        assert difference[0] < 1e-5
        assert (difference[1:] > 1e-5).all()
        assert not received.activations[~received.mask].any()


@pytest.mark.parametrize("precision", HALVES)
def test_states_are_float32(ordinary: ElmoConfig, precision: Precision, processor: str) -> None:
    bilm = FusedBiLm(Checkpoint.open(ordinary), precision=precision)
    bilm(torch.from_numpy(IDS))
    assert [part.dtype for part in bilm._carried] == [torch.float32, torch.float32]
    # With more digits than the half has: the memory goes on as it was.
    for part in bilm._carried[1:]:
        assert not torch.equal(part, part.to(getattr(torch, precision)).float())


def test_the_precisions_differ(ordinary: ElmoConfig) -> None:
    results = [ElmoEncoder(ordinary, precision=name)(IDS).activations for name in ("float32", *HALVES)]
    errors = [(result - results[0]).abs().max().item() for result in results]
    assert errors[0] < errors[2] < errors[1]  # bfloat16 has 8 bits, float16 has 11


@pytest.mark.parametrize("precision", HALVES)
def test_calls_repeat_bit_by_bit(ordinary: ElmoConfig, precision: Precision) -> None:
    encoder = ElmoEncoder(ordinary, precision=precision)
    first = encoder(IDS).activations
    assert torch.equal(encoder(IDS).activations, first)


def test_allennlps_elmo_takes_a_half_precision_bilm(ordinary: ElmoConfig) -> None:
    bilm = FusedBiLm(Checkpoint.open(ordinary), precision="bfloat16")
    output = import_elmo().Elmo(None, None, 1, module=bilm, dropout=0.0)(torch.from_numpy(IDS))
    assert output["elmo_representations"][0].dtype == torch.float32


@pytest.mark.parametrize("engine", ["fused", "allennlp"])
def test_vectors_that_are_not_finite_are_an_error(engine: Any, tmp_path: Path) -> None:
    """Weights may be finite, and so large that what is computed from them is not."""
    config = random_model(tmp_path)
    with h5py.File(config.weight_file, "r+") as file:
        file["CNN/b_cnn_0"][...] = 3e38
    with pytest.raises(
        CheckpointError, match=r"vectors must be finite\. Received: NaN or infinity, with precision='float32'"
    ):
        ElmoEncoder(config, engine=engine)(IDS)


def test_numbers_that_float16_does_not_have_are_an_error(ordinary: ElmoConfig, tmp_path: Path) -> None:
    config = random_model(tmp_path, clip=None)
    with h5py.File(config.weight_file, "r+") as file:
        file["CNN_proj/b_proj"][...] = 1e5
    assert torch.isfinite(ElmoEncoder(config)(IDS).activations).all()
    with pytest.raises(CheckpointError, match=r"precision='float16'.*Use `precision=\"float32\"`"):
        ElmoEncoder(config, precision="float16")(IDS)
