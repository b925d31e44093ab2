"""`ElmoEncoder` among threads, processes, torch settings, and changes to its module."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from models import random_model

from bridge.encoder.arguments import Engine
from bridge.encoder.encoder import BiLmOutput, ElmoEncoder
from bridge.errors import InputValueError
from bridge.resources.config import ElmoConfig
from bridge.text.characters import batch_to_ids

SENTENCES = [["The", "cat", "sat", "."], [], ["Hello"], ["<S>", "", "é" * 30]]
IDS = batch_to_ids(SENTENCES)


def assert_same(received: BiLmOutput, expected: BiLmOutput) -> None:
    """To the last bits, which may hang on the way that the numbers were computed."""
    torch.testing.assert_close(received.activations, expected.activations, rtol=0, atol=1e-6)
    assert torch.equal(received.mask, expected.mask)


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


SURROUNDINGS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "float64": lambda: default_dtype(torch.float64),
    "bfloat16": lambda: default_dtype(torch.bfloat16),
    "meta": lambda: torch.device("meta"),
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "inference_mode": torch.inference_mode,
    "enable_grad": torch.enable_grad,
}


@pytest.mark.parametrize("surroundings", SURROUNDINGS)
def test_the_callers_torch_settings_change_nothing(
    small: ElmoConfig, engine: Engine, encoder: ElmoEncoder, surroundings: str
) -> None:
    expected = encoder(IDS)
    with SURROUNDINGS[surroundings]():
        inside = ElmoEncoder(small, state="carry", engine=engine)
        assert_same(inside(IDS), expected)
    inside(IDS[:2])
    inside.reset_states()
    assert_same(inside(IDS), expected)


@pytest.mark.parametrize("surroundings", SURROUNDINGS)
def test_they_change_nothing_for_the_fused_bilm_itself(small: ElmoConfig, surroundings: str) -> None:
    bilm, ids = ElmoEncoder(small, engine="fused").module._elmo_lstm, torch.from_numpy(IDS)
    expected = [bilm(ids)["activations"] for _ in range(2)]
    bilm.reset_states()
    with SURROUNDINGS[surroundings]():
        received = [bilm(ids)["activations"]]
    received.append(bilm(ids)["activations"])  # from a state that was made in there
    torch.testing.assert_close(received, expected, rtol=0, atol=1e-6)
    assert not any(layer.requires_grad or layer.is_inference() for call in received for layer in call)


@pytest.fixture
def torch_threads() -> Iterator[None]:
    """A test may change their number."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def threads_of_a_new_thread() -> int:
    """How many PyTorch gives to a thread that starts now."""
    with ThreadPoolExecutor(1) as executor:
        return executor.submit(torch.get_num_threads).result()


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_building_and_calling_leave_torch_as_it_was(
    small: ElmoConfig, engine: Engine, threads: int, torch_threads: None
) -> None:
    def state() -> tuple[Any, ...]:
        return (
            torch.random.get_rng_state().tolist(),
            torch.get_default_dtype(),
            torch.is_grad_enabled(),
            torch.is_inference_mode_enabled(),
            torch.get_num_threads(),
            threads_of_a_new_thread(),
        )

    torch.set_num_threads(threads)
    before = state()
    encoder = ElmoEncoder(small, engine=engine)
    assert state() == before
    encoder(IDS)
    assert state() == before
    with pytest.raises(InputValueError):
        encoder(IDS + 1)
    with torch.no_grad():
        encoder.embed(SENTENCES)
        assert not torch.is_grad_enabled()
    assert state() == before


@pytest.mark.parametrize("threads", [2, 3])
def test_any_number_of_torch_threads_gives_the_same(encoder: ElmoEncoder, threads: int, torch_threads: None) -> None:
    torch.set_num_threads(1)
    expected = encoder(IDS)
    torch.set_num_threads(threads)
    assert_same(encoder(IDS), expected)


def test_the_module_holds_the_bilm_that_runs(small: ElmoConfig, engine: Engine, tmp_path: Path) -> None:
    encoder, other = (ElmoEncoder(config, engine=engine) for config in (small, random_model(tmp_path, seed=1)))
    before, others = encoder(IDS), other(IDS)
    assert not torch.allclose(before.activations, others.activations)

    bilm = encoder.module._elmo_lstm
    encoder.module._elmo_lstm = other.module._elmo_lstm
    assert_same(encoder(IDS), others)
    encoder.module._elmo_lstm = bilm
    assert_same(encoder(IDS), before)
    encoder.module = other.module
    assert_same(encoder(IDS), others)


def test_allennlps_module_is_live(small: ElmoConfig) -> None:
    encoder = ElmoEncoder(small, engine="allennlp")
    before = encoder(IDS)
    weight = next(encoder.module.parameters())
    with torch.no_grad():
        weight.mul_(2)
    assert not torch.allclose(encoder(IDS).activations, before.activations)
    with torch.no_grad():
        weight.div_(2)
    assert_same(encoder(IDS), before)

    encoder.module.requires_grad_(True)
    assert not encoder(IDS).activations.requires_grad
    assert not encoder.module.training


def in_threads(work: Callable[[int], object]) -> None:
    """Runs `work(0)` to `work(3)` in four threads at once."""
    start = threading.Barrier(4)
    errors = []

    def run(index: int) -> None:
        start.wait()
        try:
            work(index)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors


@pytest.mark.slow
@pytest.mark.parametrize("torchs", [1, 2])
def test_threads_take_turns(small: ElmoConfig, engine: Engine, torchs: int, torch_threads: None) -> None:
    # A cache that is smaller than what the threads read.
    encoder = ElmoEncoder(small, engine=engine, max_tokens_per_pass=8, token_cache_bytes=4000)
    torch.set_num_threads(torchs)
    inputs = [batch_to_ids([[f"{thread}{i}"] * (i % 5) for i in range(6)]) for thread in range(4)]
    expected = [encoder(ids) for ids in inputs]

    def call(index: int) -> None:
        assert torch.get_num_threads() == torchs
        for _ in range(5):
            assert_same(encoder(inputs[index]), expected[index])

    in_threads(call)


def test_threads_that_build_leave_torch_as_it_was(small: ElmoConfig, engine: Engine) -> None:
    seed = torch.random.get_rng_state()
    with default_dtype(torch.float64):
        in_threads(lambda index: [ElmoEncoder(small, engine=engine) for _ in range(3)])
        assert torch.get_default_dtype() == torch.float64
    assert torch.equal(torch.random.get_rng_state(), seed)


@pytest.mark.slow
def test_a_forked_child_gets_an_error_and_does_not_hang(engine: Engine, run_python: Callable[[str], str]) -> None:
    program = f"""
engine = {engine!r}
"""
    program += """
import os, signal, warnings
from pathlib import Path
import torch
from bridge import ElmoEncoder, batch_to_ids
from models import random_model

torch.set_num_threads(2)
config, ids = random_model(Path("model")), batch_to_ids([["a", "b"] * 5] * 20)
made_before, never_run = ElmoEncoder(config, engine=engine), ElmoEncoder(config, engine=engine)
made_before(ids)

def attempt(name, encoder):
    try:
        print(name, encoder()(ids).mask.all().item(), flush=True)
    except RuntimeError as error:
        print(name, type(error).__name__, "'spawn'" in str(error), flush=True)

warnings.simplefilter("ignore")  # newer Pythons warn of a fork with threads
if os.fork() == 0:
    signal.alarm(30)
    attempt("made before", lambda: made_before)
    attempt("never run", lambda: never_run)
    attempt("made in the child", lambda: ElmoEncoder(config, engine=engine))
    torch.set_num_threads(1)
    attempt("made in a child with one thread", lambda: ElmoEncoder(config, engine=engine))
    os._exit(0)
assert os.wait()[1] == 0
attempt("parent", lambda: made_before)
"""
    assert run_python(program).splitlines() == [
        "made before ProcessError True",
        "never run ProcessError True",
        "made in the child ProcessError True",
        "made in a child with one thread True",
        "parent True",
    ]


def test_a_module_of_another_precision_still_gives_float32(small: ElmoConfig) -> None:
    encoder = ElmoEncoder(small, engine="allennlp")
    expected = encoder(IDS).activations
    encoder.module.double()
    activations = encoder(IDS).activations
    assert activations.dtype == torch.float32
    torch.testing.assert_close(activations, expected, atol=1e-6, rtol=0)
