"""`FusedBiLm` among threads, failures and interrupts."""

import gc
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from models import random_model

from bridge.encoder.encoder import ElmoEncoder
from bridge.encoder.fused import FusedBiLm
from bridge.encoder.token_vectors import BYTES_PER_ENTRY
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


def in_threads(*works: Callable[[], object]) -> None:
    start = threading.Barrier(len(works))
    errors: list[BaseException] = []

    def run(work: Callable[[], object]) -> None:
        start.wait()
        try:
            work()
        except BaseException as error:
            errors.append(error)

    callers = [threading.Thread(target=run, args=(work,)) for work in works]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(120)
        assert not caller.is_alive()
    if errors:
        raise errors[0]


@pytest.mark.slow
@pytest.mark.parametrize("shared", [True, False])
def test_two_callers_at_once(small: ElmoConfig, tmp_path: Path, shared: bool, threads: int) -> None:
    other = small if shared else random_model(tmp_path, seed=1, n_layers=3)
    first = ElmoEncoder(small, max_tokens_per_pass=12, token_cache_bytes=2 * (4 * 6 + BYTES_PER_ENTRY))
    second = first if shared else ElmoEncoder(other, state="warm")
    works = []
    for encoder, ids in [(first, IDS), (second, OTHER_IDS)]:
        expected = ElmoEncoder(encoder.checkpoint, state=encoder.state)(ids).activations

        def call(encoder: ElmoEncoder = encoder, ids: np.ndarray = ids, expected: torch.Tensor = expected) -> None:
            for _ in range(10):
                torch.testing.assert_close(encoder(ids).activations, expected, rtol=0, atol=1e-6)

        works.append(call)
    in_threads(*works)
    assert torch.get_num_threads() == threads


def test_one_bilm_in_two_encoders_and_two_threads(small: ElmoConfig, threads: int) -> None:
    first, second = ElmoEncoder(small), ElmoEncoder(small)
    second.module = first.module
    expected = first(IDS).activations, first(OTHER_IDS).activations

    def call(encoder: ElmoEncoder, ids: np.ndarray, wanted: torch.Tensor) -> None:
        for _ in range(10):
            torch.testing.assert_close(encoder(ids).activations, wanted, rtol=0, atol=1e-6)

    in_threads(lambda: call(first, IDS, expected[0]), lambda: call(second, OTHER_IDS, expected[1]))


def test_a_failure_in_one_direction_arrives_and_the_next_call_works(
    small: ElmoConfig, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = ElmoEncoder(small)
    expected = encoder(IDS).activations
    for lstm in encoder.module._elmo_lstm._directions:
        with monkeypatch.context() as patch:
            patch.setattr(lstm._cells[1], "step", lambda *arguments, **more: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                encoder(IDS)
        assert torch.equal(encoder(IDS).activations, expected)
    assert torch.get_num_threads() == threads


def test_a_failed_warm_up_is_made_good(small: ElmoConfig, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = ElmoEncoder(small, state="warm")(IDS).activations
    encoder = ElmoEncoder(small, state="warm")
    cell = encoder.module._elmo_lstm._directions[1]._cells[1]
    calls = 0
    step = cell.step

    def fail_later(*arguments: Any, **more: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 30:  # in the middle of the warm-up text
            raise MemoryError
        return step(*arguments, **more)

    monkeypatch.setattr(cell, "step", fail_later)
    with pytest.raises(MemoryError):
        encoder(IDS)
    assert torch.equal(encoder(IDS).activations, expected)


def test_a_failed_call_keeps_the_state_that_was_carried_before(
    checkpoint: Checkpoint, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    bilm, other = FusedBiLm(checkpoint), FusedBiLm(checkpoint)
    inputs = torch.from_numpy(IDS)
    for module in (bilm, other):
        module(inputs)
    with monkeypatch.context() as patch:
        patch.setattr(bilm._directions[1]._cells[1], "step", lambda *arguments, **more: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            bilm(inputs)
    for received, expected in zip(bilm(inputs)["activations"], other(inputs)["activations"], strict=True):
        assert torch.equal(received, expected)


@pytest.mark.slow
def test_an_encoder_that_is_gone_has_no_threads(small: ElmoConfig) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        gc.collect()
        others = set(threading.enumerate())
        encoder = ElmoEncoder(small)
        encoder(IDS)
        encoder(OTHER_IDS)
        started = set(threading.enumerate()) - others
        assert len(started) == 2
        del encoder
        gc.collect()
        for thread in started:
            thread.join(10)
            assert not thread.is_alive()
    finally:
        torch.set_num_threads(before)


@pytest.mark.slow
@pytest.mark.parametrize("threads_used", [1, 2])
def test_ctrl_c_is_prompt_and_leaves_the_encoder_usable(run_python: Callable[[str], str], threads_used: int) -> None:
    program = f"""
import os, signal, threading, time
from pathlib import Path
import torch
from bridge import ElmoEncoder, batch_to_ids
from models import random_model

signal.signal(signal.SIGINT, signal.default_int_handler)  # also where the tests run in the background
torch.set_num_threads({threads_used})
encoder = ElmoEncoder(random_model(Path("model"), dim=1024, projection_dim=256))
short = batch_to_ids([["The", "cat", "sat"], ["Hello"]])
long = batch_to_ids([[f"word{{i % 2000}}" for i in range(30_000)]])
expected = encoder(short).activations
interrupted = 0
for delay in (0.2, 0.7, 1.2, 2.0):
    sent = []

    def press():
        time.sleep(delay)
        sent.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    presser = threading.Thread(target=press)
    presser.start()
    try:
        encoder(long)
    except KeyboardInterrupt:
        assert time.monotonic() - sent[0] < 3, time.monotonic() - sent[0]
        interrupted += 1
    presser.join()
    assert torch.equal(encoder(short).activations, expected)
    assert torch.get_num_threads() == {threads_used}
print(interrupted)
"""
    assert run_python(program) == "4\n"


AFTER_THE_MAIN_THREAD = """
import threading, time
from pathlib import Path
import torch
from bridge import ElmoEncoder, batch_to_ids
from models import random_model

torch.set_num_threads(2)
encoder, ids = ElmoEncoder(random_model(Path("model"))), batch_to_ids([["a", "b"]] * 3)
expected = encoder(ids).activations

def go_on():
    threading.main_thread().join()
    time.sleep(0.2)
    print(torch.equal(encoder(ids).activations, expected), flush=True)

threading.Thread(target=go_on).start()
"""


@pytest.mark.slow
def test_a_thread_that_outlives_the_main_one_can_still_encode(run_python: Callable[[str], str]) -> None:
    """Python starts no threads any more then."""
    assert run_python(AFTER_THE_MAIN_THREAD).split() == ["True"]


def test_a_carrying_call_that_is_interrupted_leaves_the_states_as_they_were(
    small: ElmoConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder, other = (ElmoEncoder(small, state="carry", max_tokens_per_pass=8) for _ in range(2))
    ids = batch_to_ids([["a", "b"], ["c", "d", "e"], ["f"]])
    for each in (encoder, other):
        each(ids)
    encode, calls = FusedBiLm.encode, []

    def second_fails(*arguments: Any) -> None:
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        encode(*arguments)

    monkeypatch.setattr(FusedBiLm, "encode", second_fails)
    with pytest.raises(KeyboardInterrupt):
        encoder(ids)
    monkeypatch.undo()
    assert torch.equal(encoder(ids).activations, other(ids).activations)
