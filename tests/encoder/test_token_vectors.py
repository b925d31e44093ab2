"""`TokenVectors` computes a token once, remembers the most recently used ones, and never gives a wrong vector."""

import sys
import threading
import tracemalloc
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from bridge.encoder import token_vectors
from bridge.encoder.token_vectors import BYTES_PER_ENTRY, TokenCacheInfo, TokenVectors

CPU = torch.device("cpu")
DIM = 3
BYTES_PER_TOKEN = 4 * DIM + BYTES_PER_ENTRY


def ids_of(tokens: list[int]) -> np.ndarray:
    """Different tokens differ in two of their characters."""
    ids = np.full((len(tokens), 50), 261, dtype=np.uint16)
    ids[:, 0] = np.array(tokens, dtype=np.int64) % 256
    ids[:, 49] = np.array(tokens, dtype=np.int64) // 256
    return ids


class Compute:
    """Vectors that tell which token they are of; counts what it computes."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []

    def __call__(self, char_ids: np.ndarray) -> torch.Tensor:
        tokens = char_ids[:, 0].astype(np.int64) + 256 * char_ids[:, 49].astype(np.int64)
        self.calls.append(tokens.tolist())
        return torch.from_numpy(tokens[:, None] + np.arange(DIM) / 4).float()


def vectors_of(cache: TokenVectors, tokens: list[int]) -> torch.Tensor:
    vectors, index = cache(ids_of(tokens))
    assert len(vectors) == len(set(tokens))
    return vectors[torch.from_numpy(index)]


def expected_vectors(tokens: list[int]) -> torch.Tensor:
    return Compute()(ids_of(tokens))


texts = st.lists(st.lists(st.integers(0, 6), max_size=8), min_size=1, max_size=6)


@given(texts=texts, maxsize=st.integers(0, 6), spare=st.integers(0, BYTES_PER_TOKEN - 1))
@example(texts=[[0, 1], [0], [2], [0, 1]], maxsize=2, spare=0)
def test_hits_misses_and_who_is_forgotten(texts: list[list[int]], maxsize: int, spare: int) -> None:
    compute = Compute()
    cache = TokenVectors(compute, DIM, maxsize * BYTES_PER_TOKEN + spare, CPU)
    kept: OrderedDict[int, None] = OrderedDict()  # the least recently used first
    hits = misses = 0
    assert cache.info() == (0, 0, maxsize, 0)
    for tokens in texts:
        assert torch.equal(vectors_of(cache, tokens), expected_vectors(tokens))
        new = [token for token in dict.fromkeys(tokens) if token not in kept]
        assert [token for call in compute.calls for token in call] == new
        compute.calls.clear()
        hits += sum(token in kept for token in tokens)
        misses += sum(token not in kept for token in tokens)
        for token in dict.fromkeys(tokens):
            if token in kept:
                kept.move_to_end(token)
        # All that are new are used at once: where they are too many, the first ones stay.
        for token in new[:maxsize]:
            if len(kept) == maxsize:
                kept.popitem(last=False)
            kept[token] = None
        assert cache.info() == TokenCacheInfo(hits, misses, maxsize, len(kept))


def test_the_least_recently_used_is_forgotten_first() -> None:
    compute = Compute()
    cache = TokenVectors(compute, DIM, 3 * BYTES_PER_TOKEN, CPU)
    for tokens in ([1, 2, 3], [1], [4]):  # 2 goes
        cache(ids_of(tokens))
    compute.calls.clear()
    cache(ids_of([1, 3, 4]))
    assert [token for call in compute.calls for token in call] == []
    cache(ids_of([2]))
    assert [token for call in compute.calls for token in call] == [2]


@pytest.mark.parametrize("max_bytes", [0, BYTES_PER_TOKEN - 1])
def test_without_room_nothing_is_kept_and_still_computed_once_a_pass(max_bytes: int) -> None:
    compute = Compute()
    cache = TokenVectors(compute, DIM, max_bytes, CPU)
    for _ in range(2):
        assert torch.equal(vectors_of(cache, [5, 6, 5, 5]), expected_vectors([5, 6, 5, 5]))
    assert compute.calls == [[5, 6], [5, 6]]
    assert cache.info() == (0, 8, 0, 0)


def test_tokens_that_differ_in_one_character_differ() -> None:
    ids = np.full((101, 50), 97, dtype=np.uint16)
    ids[np.arange(50), np.arange(50)] = 98
    ids[np.arange(50, 100), np.arange(50)] = 97 + 256 - 97  # another high byte, too
    cache = TokenVectors(lambda ids: torch.from_numpy(ids.astype(np.float32))[:, :DIM], DIM, 2**20, CPU)
    vectors, index = cache(ids)
    assert len(vectors) == 101
    np.testing.assert_array_equal(index, np.arange(101))


def test_earlier_results_and_inputs_are_left_alone() -> None:
    cache = TokenVectors(Compute(), DIM, 2 * BYTES_PER_TOKEN, CPU)
    ids = ids_of([1, 2, 1])
    before = ids.copy()
    first, _ = cache(ids)
    again, _ = cache(ids)
    copies = first.clone(), again.clone()
    cache(ids_of([3, 4, 5, 6]))
    assert torch.equal(first, copies[0])
    assert torch.equal(again, copies[1])
    np.testing.assert_array_equal(ids, before)
    first.zero_()  # a caller's own
    assert torch.equal(vectors_of(cache, [1, 2, 1]), expected_vectors([1, 2, 1]))


def test_views_that_are_not_contiguous() -> None:
    cache = TokenVectors(Compute(), DIM, 2**20, CPU)
    ids = ids_of(list(range(10)))
    vectors, index = cache(ids[::-3])
    assert torch.equal(vectors[torch.from_numpy(index)], expected_vectors([9, 6, 3, 0]))
    vectors, index = cache(np.asfortranarray(ids))
    assert torch.equal(vectors[torch.from_numpy(index)], expected_vectors(list(range(10))))


def test_a_failure_to_compute_leaves_the_cache_as_it_was() -> None:
    compute = Compute()
    failing = False

    def run(ids: np.ndarray) -> torch.Tensor:
        if failing and len(ids):
            raise MemoryError
        return compute(ids)

    cache = TokenVectors(run, DIM, 4 * BYTES_PER_TOKEN, CPU)
    cache(ids_of([1, 2]))
    before, failing = cache.info(), True
    with pytest.raises(MemoryError):
        cache(ids_of([2, 3]))
    assert cache.info() == before
    failing = False
    assert torch.equal(vectors_of(cache, [1, 2, 3]), expected_vectors([1, 2, 3]))


def interrupted_at(line: int, cache: TokenVectors, tokens: list[int]) -> bool:
    """Calls with Ctrl-C at that line of those that run under the lock; returns whether there are so many."""
    lines = 0

    def trace(frame: Any, event: str, argument: Any) -> Any:
        nonlocal lines
        # Python looks for Ctrl-C after calls, never between a `with` and its lock.
        if frame.f_code.co_filename != token_vectors.__file__ or frame.f_code.co_name == "__call__":
            return None
        if event == "line":
            lines += 1
            if lines == line:
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        cache(ids_of(tokens))
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


@pytest.mark.parametrize("maxsize", [2, 4, 100])
@pytest.mark.parametrize("filled", [[], [1, 2], [1, 2, 3, 4]])
def test_an_interrupt_anywhere_leaves_no_wrong_vector(maxsize: int, filled: list[int]) -> None:
    line = 1
    while True:
        cache = TokenVectors(Compute(), DIM, maxsize * BYTES_PER_TOKEN, CPU)
        cache(ids_of(filled))
        if not interrupted_at(line, cache, [2, 7, 8, 9]):
            break
        for tokens in ([1, 2, 3, 7], [8, 9, 4], [7, 8, 9, 10], [1, 2, 3, 4, 7, 8, 9, 10, 11, 12]):
            assert torch.equal(vectors_of(cache, tokens), expected_vectors(tokens)), f"interrupted at line {line}"
        assert cache.info().currsize <= maxsize
        line += 1
    assert line > 15


def test_memory_keeps_to_the_budget() -> None:
    """The vectors and Python's part of it, measured."""
    dim, maxsize = 16, 4000
    budget = maxsize * (4 * dim + BYTES_PER_ENTRY)
    cache = TokenVectors(lambda ids: torch.ones(len(ids), dim), dim, budget, CPU)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for start in range(0, 3 * maxsize, 500):
            cache(ids_of(list(range(start, start + 500))))
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert cache.info().currsize == maxsize
    vectors = cache._kept.numel() * cache._kept.element_size()
    assert vectors <= 4 * dim * maxsize
    assert after - before + vectors <= budget


def test_a_large_budget_takes_no_memory_before_it_is_used() -> None:
    cache = TokenVectors(Compute(), DIM, 2**60, CPU)
    assert torch.equal(vectors_of(cache, [1, 2]), expected_vectors([1, 2]))
    assert cache.info().maxsize == 2**60 // BYTES_PER_TOKEN


def test_threads_get_their_own_tokens_and_every_token_counts() -> None:
    cache = TokenVectors(Compute(), DIM, 20 * BYTES_PER_TOKEN, CPU)
    errors: list[str] = []
    start = threading.Barrier(4)

    def call(seed: int) -> None:
        generator = np.random.default_rng(seed)
        start.wait()
        for _ in range(60):
            tokens = generator.integers(0, 60, size=15).tolist()
            if not torch.equal(vectors_of(cache, tokens), expected_vectors(tokens)):
                errors.append(f"wrong vectors for {tokens}")

    threads = [threading.Thread(target=call, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    info = cache.info()
    assert info.hits + info.misses == 4 * 60 * 15
    assert info.currsize == 20
