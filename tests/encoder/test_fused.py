"""`FusedBiLm` beside its numbers: torch settings, fresh results, token cache, errors."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
import pytest
import torch

from bridge.encoder.encoder import ElmoEncoder
from bridge.encoder.fused import FusedBiLm
from bridge.encoder.token_vectors import BYTES_PER_ENTRY
from bridge.errors import InputTypeError, InputValueError, UnsupportedError
from bridge.resources.checkpoint import Checkpoint
from bridge.resources.config import ElmoConfig
from bridge.text.characters import batch_to_ids

IDS = batch_to_ids([["The", "cat", "sat", "."], [], ["Hello"], ["<S>", "", "é" * 30]])
OTHER_IDS = batch_to_ids([["A", "dog"], ["lay", "on", "the", "mat", "and", "slept"]])


@pytest.fixture
def checkpoint(small: ElmoConfig) -> Checkpoint:
    return Checkpoint.open(small)


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def layers(bilm: FusedBiLm, ids: np.ndarray = IDS) -> torch.Tensor:
    """From the zero state."""
    bilm.reset_states()
    return torch.stack(bilm(torch.from_numpy(ids))["activations"], dim=2)


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


SURROUNDINGS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "float64 by default": lambda: default_dtype(torch.float64),
    "bfloat16 by default": lambda: default_dtype(torch.bfloat16),
    "another device by default": lambda: torch.device("meta"),
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "inference mode": torch.inference_mode,
    "gradients": torch.enable_grad,
    "no gradients": torch.no_grad,
}


@pytest.mark.slow
@pytest.mark.parametrize("surroundings", SURROUNDINGS.values(), ids=SURROUNDINGS)
def test_the_torch_settings_of_maker_and_caller_change_nothing(
    checkpoint: Checkpoint, surroundings: Callable[[], AbstractContextManager[Any]], threads: int
) -> None:
    outside = FusedBiLm(checkpoint)
    ids = torch.from_numpy(IDS)
    expected = [torch.stack(outside(ids)["activations"], dim=2) for _ in range(3)]
    outside.reset_states()
    with surroundings():
        inside = FusedBiLm(checkpoint)
    # Made or called there, or both, the state goes on.
    for bilm in (outside, inside):
        for call, wanted in enumerate(expected):
            with surroundings() if call % 2 == 0 else torch.no_grad():
                output = bilm(ids)
                assert output["mask"].device.type == "cpu"
                if call == 2:
                    bilm.reset_states()
            for layer, values in enumerate(output["activations"]):
                assert values.dtype == torch.float32
                assert not values.is_inference()
                assert not values.requires_grad
                assert torch.equal(values, wanted[:, :, layer])
        bilm(ids)


def test_settings_are_left_as_they_were(checkpoint: Checkpoint, threads: int) -> None:
    def settings() -> tuple[Any, ...]:
        modes = torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu")
        return *modes, torch.get_default_dtype(), torch.get_num_threads(), torch.random.get_rng_state().tolist()

    before = settings()
    bilm = FusedBiLm(checkpoint)
    bilm(torch.from_numpy(IDS))
    assert settings() == before
    with torch.no_grad(), torch.autocast("cpu"):
        inside = settings()
        bilm(torch.from_numpy(IDS))
        assert settings() == inside
    assert settings() == before


def test_results_and_inputs_are_the_callers_own(small: ElmoConfig, threads: int) -> None:
    for state in ("zero", "warm", "carry"):
        encoder = ElmoEncoder(small, state=state, max_tokens_per_pass=9)
        ids = IDS.copy()
        ids.flags.writeable = False
        first = encoder(ids)
        kept = first.activations.clone(), first.mask.clone()
        for other in (OTHER_IDS, IDS, OTHER_IDS):
            encoder(other)
        assert torch.equal(first.activations, kept[0])
        assert torch.equal(first.mask, kept[1])
        np.testing.assert_array_equal(ids, IDS)

        # What a caller does to results reaches no later one.
        encoder.reset_states()
        encoder(IDS).activations.fill_(torch.nan)
        encoder.reset_states()
        assert torch.equal(encoder(IDS).activations, kept[0])


def test_results_of_the_module_are_the_callers_own(checkpoint: Checkpoint, threads: int) -> None:
    bilm = FusedBiLm(checkpoint)
    inputs = torch.from_numpy(IDS.copy())
    first = bilm(inputs)
    kept = [values.clone() for values in first["activations"]]
    second = bilm(inputs)["activations"]
    assert not torch.equal(second[1], kept[1])  # the state went on
    for values, copy in zip(first["activations"], kept, strict=True):
        assert torch.equal(values, copy)
        values.fill_(torch.nan)
    np.testing.assert_array_equal(inputs, IDS)
    assert torch.equal(layers(bilm)[:, :, 1], kept[1])
    assert torch.isfinite(layers(bilm)).all()


@pytest.mark.slow
@pytest.mark.parametrize("tokens_kept", [0, 1, 2, 1000])
def test_repeated_calls_are_bit_identical(small: ElmoConfig, tokens_kept: int, threads: int) -> None:
    room = tokens_kept * (4 * 6 + BYTES_PER_ENTRY)
    for state in ("zero", "warm"):
        encoder = ElmoEncoder(small, state=state, token_cache_bytes=room)
        first = encoder(IDS).activations
        for _ in range(3):
            assert torch.equal(encoder(IDS).activations, first)


def test_the_cache_of_an_encoder_counts_every_token(small: ElmoConfig) -> None:
    encoder = ElmoEncoder(small, token_cache_bytes=3 * (4 * 6 + BYTES_PER_ENTRY) + 5)
    assert encoder.token_cache_info() == (0, 0, 3, 0)
    encoder(batch_to_ids([["a", "b", "a"], ["b"]]))
    assert encoder.token_cache_info() == (0, 4, 3, 2)
    encoder(batch_to_ids([["a", "c"], [], ["a"]]))
    assert encoder.token_cache_info() == (2, 5, 3, 3)
    encoder(batch_to_ids([["d"]]))  # b goes
    encoder(batch_to_ids([["a", "c", "d"]]))
    assert encoder.token_cache_info() == (5, 6, 3, 3)
    encoder(batch_to_ids([["b"]]))
    assert encoder.token_cache_info() == (5, 7, 3, 3)
    encoder(batch_to_ids([[]]))
    assert encoder.token_cache_info() == (5, 7, 3, 3)
    # What is masked is not computed.
    encoder(batch_to_ids([["e", "b"]]), np.array([[True, False]]))
    assert encoder.token_cache_info() == (5, 8, 3, 3)


@pytest.mark.parametrize(
    ("inputs", "error"),
    [
        (torch.full((1, 2, 49), 5), InputValueError),
        (torch.full((1, 2, 51), 5), InputValueError),
        (torch.full((2, 50), 5), InputValueError),
        (torch.full((1, 2, 50), 262), InputValueError),
        (torch.full((1, 2, 50), -1), InputValueError),
        (torch.full((1, 2, 50), 5.0), InputTypeError),
        (torch.full((1, 2, 50), 5, dtype=torch.bfloat16), InputTypeError),
        (torch.full((1, 2, 50), 5, dtype=torch.uint8), InputTypeError),
        (torch.ones((1, 2, 50), dtype=torch.bool), InputTypeError),
        (torch.tensor([0, 5])[None, :, None].expand(1, 2, 50), InputValueError),
    ],
)
def test_wrong_ids_get_an_error_and_the_state_stays(
    checkpoint: Checkpoint, inputs: torch.Tensor, error: type[Exception]
) -> None:
    bilm = FusedBiLm(checkpoint)
    bilm(torch.from_numpy(IDS))
    with pytest.raises(error, match="`char_ids`"):
        bilm(inputs)
    again = FusedBiLm(checkpoint)
    again(torch.from_numpy(IDS))
    for received, expected in zip(
        bilm(torch.from_numpy(IDS))["activations"], again(torch.from_numpy(IDS))["activations"], strict=True
    ):
        assert torch.equal(received, expected)


def test_word_inputs_are_refused(checkpoint: Checkpoint) -> None:
    with pytest.raises(UnsupportedError, match="word_inputs"):
        FusedBiLm(checkpoint)(torch.from_numpy(IDS), torch.zeros(4, 4))


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"precision": "float64"}, InputValueError),
        ({"precision": "int8"}, InputValueError),
        ({"token_cache_bytes": -1}, InputValueError),
        ({"token_cache_bytes": 1.5}, InputTypeError),
        ({"device": "no such device"}, InputValueError),
    ],
)
def test_wrong_arguments_get_an_error(
    checkpoint: Checkpoint, arguments: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error, match=next(iter(arguments))):
        FusedBiLm(checkpoint, **arguments)
