"""BatchPlan: every sentence once an epoch, in batches that are the same wherever they are planned."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import InputTypeError, InputValueError
from bridge.features.batches import BatchPlan

LENGTHS = np.random.default_rng(0).integers(0, 40, size=2000)  # about 39,000 tokens

plans = st.fixed_dictionaries(
    {
        "batch_size": st.integers(1, 7),
        "shuffle": st.booleans(),
        "seed": st.integers(0, 2**40),
        "bucket_by_length": st.booleans(),
        "skip_empty": st.booleans(),
        "pool_tokens": st.integers(1, 200),
    }
)
corpora = st.lists(st.integers(0, 30), max_size=60)


def sentences_of(batches: Any) -> list[int]:
    return [index for batch in batches for index in batch.tolist()]


@given(corpora, plans, st.integers(1, 5), st.integers(0, 3))
def test_shards_have_every_sentence_once(
    lengths: list[int], arguments: dict[str, Any], num_shards: int, epoch: int
) -> None:
    wanted = [index for index, length in enumerate(lengths) if length or not arguments["skip_empty"]]
    shards = [BatchPlan(lengths, **arguments, num_shards=num_shards, shard_index=k) for k in range(num_shards)]
    batches = [list(shard.batches(epoch)) for shard in shards]
    assert sorted(sentences_of(batch for shard in batches for batch in shard)) == wanted
    counts = [len(sentences_of(shard)) for shard in batches]
    assert max(counts) - min(counts) <= 1
    assert [shard.sentences for shard in shards] == counts
    for shard, planned in zip(batches, shards, strict=True):
        assert len(planned) == len(shard) == -(-planned.sentences // arguments["batch_size"])
        assert all(len(batch) == arguments["batch_size"] for batch in shard[:-1])
        assert all(batch.dtype == np.int64 for batch in shard)
    if not arguments["shuffle"]:
        assert sentences_of(batch for shard in batches for batch in shard) == wanted


@given(corpora, plans, st.integers(1, 5))
def test_with_drop_remainder_all_shards_have_as_many_full_batches(
    lengths: list[int], arguments: dict[str, Any], num_shards: int
) -> None:
    arguments |= {"drop_remainder": True, "num_shards": num_shards}
    size, count = arguments["batch_size"], len([length for length in lengths if length or not arguments["skip_empty"]])
    plans = [BatchPlan(lengths, **arguments, shard_index=index) for index in range(num_shards)]
    shards = [list(plan.batches(2)) for plan in plans]
    assert {len(batch) for shard in shards for batch in shard} <= {size}
    assert {len(shard) for shard in shards} == {len(plan) for plan in plans} == {count // num_shards // size}
    sentences = sentences_of(batch for shard in shards for batch in shard)
    assert len(sentences) == len(set(sentences))


@given(corpora, plans)
def test_pools_are_as_large_as_said(lengths: list[int], arguments: dict[str, Any]) -> None:
    plan = BatchPlan(lengths, **arguments)
    pools = list(plan.pools(0))
    assert sentences_of(batch for pool in pools for batch in pool) == sentences_of(plan.batches(0))
    for pool in pools:
        tokens = sum(lengths[index] for index in sentences_of(pool))
        assert tokens <= arguments["pool_tokens"] or len(pool) == 1
        assert pool is pools[-1] or all(len(batch) == arguments["batch_size"] for batch in pool)


@given(corpora, plans, st.integers(0, 100))
def test_a_plan_is_a_function_of_its_arguments_and_the_epoch(
    lengths: list[int], arguments: dict[str, Any], epoch: int
) -> None:
    given_lengths = np.array(lengths, dtype=np.int32)
    given_lengths.flags.writeable = False
    plan = BatchPlan(given_lengths, **arguments)
    first = sentences_of(plan.batches(epoch))
    list(plan.batches(epoch + 1))
    assert sentences_of(plan.batches(epoch)) == first
    assert sentences_of(BatchPlan(lengths, **arguments).batches(epoch)) == first


@pytest.mark.parametrize("pool_tokens", [1000, 100_000])
def test_epochs_and_seeds_have_orders_of_their_own(pool_tokens: int) -> None:
    def order(seed: int, epoch: int) -> list[int]:
        return sentences_of(BatchPlan(LENGTHS, shuffle=True, seed=seed, pool_tokens=pool_tokens).batches(epoch))

    orders = [order(seed, epoch) for seed in range(3) for epoch in range(3)]
    assert len(set(map(tuple, orders))) == 9
    # Nearly nobody keeps a place or a neighbour.
    for index, first in enumerate(orders):
        for second in orders[index + 1 :]:
            assert np.mean(np.array(first) == second) < 0.01


def test_where_one_pool_holds_all_every_order_is_equally_likely() -> None:
    plan = BatchPlan([3, 1, 4, 2], batch_size=1, shuffle=True, bucket_by_length=False)
    epochs = 2400
    counts = Counter(tuple(sentences_of(plan.batches(epoch))) for epoch in range(epochs))
    assert len(counts) == 24
    statistic = sum((count - epochs / 24) ** 2 / (epochs / 24) for count in counts.values())
    assert statistic < 49.7  # chi-square of 23 degrees of freedom: 1 in 1000


def test_shards_of_a_store_in_one_pool_are_drawn_from_all_of_it() -> None:
    counts = np.zeros(10)
    for epoch in range(400):
        plan = BatchPlan(np.ones(10, int), shuffle=True, num_shards=2, shard_index=1)
        counts[sentences_of(plan.batches(epoch))] += 1
    assert abs(counts - 200).max() < 50  # 5 standard deviations


def test_pools_are_read_in_bulk() -> None:
    plan = BatchPlan(LENGTHS, shuffle=True, pool_tokens=6400)
    pools = [np.sort(sentences_of(pool)) for pool in plan.pools(0)]
    assert len(pools) > 5
    for pool in pools:
        runs = 1 + np.count_nonzero(np.diff(pool) > 1)
        assert runs <= 2 + LENGTHS[pool].sum() / (6400 / 32 - 40)
        # They come from the whole file.
        assert pool[0] < 500
        assert pool[-1] > 1500
    positions = [pool.mean() for pool in pools]
    assert np.std(positions) < 300


def padding(**arguments: Any) -> float:
    batches = [LENGTHS[batch] for batch in BatchPlan(LENGTHS, shuffle=True, **arguments).batches(0)]
    return 1 - LENGTHS.sum() / sum(len(lengths) * lengths.max() for lengths in batches)


def test_buckets_need_less_padding() -> None:
    assert padding(bucket_by_length=False) > 0.45
    assert padding() < 0.15


def test_buckets_mix_from_epoch_to_epoch() -> None:
    """Sentences of one length do not meet in every epoch, and batches do not come by length."""
    plan = BatchPlan(LENGTHS, shuffle=True, pool_tokens=100_000)
    batches = list(plan.batches(0))
    together = {pair for batch in batches for pair in zip(sorted(batch), sorted(batch)[1:], strict=False)}
    again = {pair for batch in plan.batches(1) for pair in zip(sorted(batch), sorted(batch)[1:], strict=False)}
    assert len(together & again) < 0.2 * len(together)
    means = [LENGTHS[batch].mean() for batch in batches]
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.4


@pytest.mark.parametrize("bucket_by_length", [False, True])
def test_what_is_dropped_is_not_always_the_same(bucket_by_length: bool) -> None:
    lengths = np.arange(1, 12)
    plan = BatchPlan(lengths, batch_size=4, shuffle=True, drop_remainder=True, bucket_by_length=bucket_by_length)
    counts = np.zeros(len(lengths))
    for epoch in range(300):
        counts[sentences_of(plan.batches(epoch))] += 1
    assert abs(counts - 300 * 8 / 11).max() < 45  # over 5 standard deviations


WRONG: dict[str, tuple[Any, dict[str, Any], type[Exception], str]] = {
    "floats": ([1.5], {}, InputTypeError, "`lengths` must be one integer for each.*float64"),
    "two axes": ([[1]], {}, InputTypeError, r"`lengths` must be one integer.*\(1, 1\)"),
    "negative": ([3, -1], {}, InputValueError, "`lengths` must not be negative. Received: -1"),
    "no rows": ([1], {"batch_size": 0}, InputValueError, "`batch_size` must be at least 1. Received: 0"),
    "part of a row": ([1], {"batch_size": 1.0}, InputTypeError, "`batch_size` must be an integer. Received: 1.0"),
    "seed": ([1], {"seed": None}, InputTypeError, "`seed` must be an integer. Received: None"),
    "shuffle": ([1], {"shuffle": 100}, InputTypeError, "`shuffle` must be True or False. Received: 100"),
    "shard": ([1], {"num_shards": 2, "shard_index": 2}, InputValueError, "shard_index=2, num_shards=2. The first"),
    "no pool": ([1], {"pool_tokens": 0}, InputValueError, "`pool_tokens` must be at least 1"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_arguments(case: str) -> None:
    lengths, arguments, error, text = WRONG[case]
    with pytest.raises(error, match=text):
        BatchPlan(lengths, **arguments)
