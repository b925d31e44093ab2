"""Which sentences make which batch: `BatchPlan`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from bridge.checks import check_boolean, check_integer
from bridge.errors import InputTypeError, InputValueError

POOL_TOKENS = 16_384
BLOCKS_IN_A_POOL = 32
# Without a shuffle large pools would only be late.
POOLS_IN_ORDER = 8
# As in AllenNLP's BucketBatchSampler: without it, sentences of one length would meet in every epoch.
LENGTH_NOISE = 0.1


class BatchPlan:
    """Divides the sentences of a feature store into batches, in every epoch.

    A plan is a function of its arguments and of the epoch alone, whatever the layout or dtype of the store: the same
    ones give the same batches on every machine (with one version of NumPy). So the very batches that
    `FeatureStore.dataset` makes of features can be made of tokens, or of anything else that sentences have.

    Sentences are read in pools of up to `pool_tokens` tokens, or of one batch that has more. Without `shuffle` they
    keep their order, and pools have an eighth of that. With it, every epoch draws the order of blocks of consecutive
    sentences (1/32 pool each), fills pools with them, and shuffles inside each pool: what is read is read in bulk, and
    memory does not grow with the store. Where all sentences fit into one pool, every order is equally likely.

    Shards are equal runs of this order (to one sentence), drawn from one and the same shuffle: they are disjoint and
    together the whole, in every epoch.

    Args:
        lengths: number of tokens of every sentence, integers `(sentences,)`: `FeatureStore.lengths`.
        batch_size: sentences in a batch. The last batch of an epoch may have fewer.
        shuffle: whether to shuffle, differently in every epoch.
        seed: of the shuffle.
        bucket_by_length: with `shuffle`, whether the sentences of a batch are of similar length, which needs less
            padding. In a pool they are sorted by length, give or take 10% at random, and batches of neighbours are
            shuffled. Without `shuffle` the order is kept, and this means nothing.
        num_shards: between how many workers to divide the sentences.
        shard_index: which of these shards this plan is for, from 0.
        drop_remainder: drops the sentences that do not fill a batch (with `shuffle`, others in every epoch), and such
            batches that not all shards have, so that all workers do as many steps.
        skip_empty: leaves out sentences without tokens.
        pool_tokens: tokens in a pool. More of them shuffle and bucket better, and need more memory.

    Raises:
        InputTypeError, InputValueError: an argument is of another type, or out of its range.

    Example:
        >>> plan = BatchPlan(store.lengths, batch_size=32, shuffle=True, seed=1)
        >>> for epoch in range(3):
        ...     for indices in plan.batches(epoch):
        ...         tokens = [sentences[index] for index in indices]
    """

    def __init__(
        self,
        lengths: Any,
        *,
        batch_size: int = 32,
        shuffle: bool = False,
        seed: int = 0,
        bucket_by_length: bool = True,
        num_shards: int = 1,
        shard_index: int = 0,
        drop_remainder: bool = False,
        skip_empty: bool = False,
        pool_tokens: int = POOL_TOKENS,
    ) -> None:
        try:
            lengths = np.asarray(lengths)
        except (OverflowError, RuntimeError, TypeError, ValueError) as error:  # ragged, or of another library
            raise InputTypeError(
                f"`lengths` must be one integer for each sentence. Received: {lengths!r:.80} ({error}). Give the "
                "`lengths` of a FeatureStore."
            ) from error
        if lengths.ndim != 1 or (lengths.dtype.kind not in "iu" and len(lengths)):
            raise InputTypeError(
                "`lengths` must be one integer for each sentence. Received: an array of dtype "
                f"{lengths.dtype} and shape {lengths.shape}. Give the `lengths` of a FeatureStore."
            )
        if (lengths < 0).any():
            raise InputValueError(f"`lengths` must not be negative. Received: {lengths.min()}.")
        check_integer("batch_size", batch_size, minimum=1)
        check_integer("seed", seed, minimum=0)
        check_integer("num_shards", num_shards, minimum=1)
        check_integer("shard_index", shard_index, minimum=0)
        if shard_index >= num_shards:
            raise InputValueError(
                f"`shard_index` must be less than `num_shards`. Received: shard_index={shard_index}, "
                f"num_shards={num_shards}. The first shard is 0."
            )
        check_integer("pool_tokens", pool_tokens, minimum=1)
        flags = {
            "shuffle": shuffle,
            "bucket_by_length": bucket_by_length,
            "drop_remainder": drop_remainder,
            "skip_empty": skip_empty,
        }
        for name, flag in flags.items():
            check_boolean(name, flag)
        self.lengths = lengths.astype(np.int64)
        self.batch_size = int(batch_size)
        self.shuffle = bool(shuffle)
        self.seed = int(seed)
        self.bucket_by_length = bool(bucket_by_length)
        self.num_shards = int(num_shards)
        self.shard_index = int(shard_index)
        self.drop_remainder = bool(drop_remainder)
        self.skip_empty = bool(skip_empty)
        self.pool_tokens = int(pool_tokens)
        count = int(np.count_nonzero(self.lengths)) if skip_empty else len(self.lengths)
        # In Python's integers, which do not overflow.
        begin, end = (count * index // self.num_shards for index in (self.shard_index, self.shard_index + 1))
        if drop_remainder:
            end = begin + count // self.num_shards // self.batch_size * self.batch_size
        self._shard = slice(begin, end)

    @property
    def sentences(self) -> int:
        """How many sentences every epoch has in this shard."""
        return self._shard.stop - self._shard.start

    def __len__(self) -> int:
        """How many batches every epoch has in this shard."""
        return (self.sentences + self.batch_size - 1) // self.batch_size

    def batches(self, epoch: int = 0) -> Iterator[np.ndarray]:
        """The batches of an epoch: arrays of sentence numbers, int64, in the order of their rows."""
        for pool in self.pools(epoch):
            yield from pool

    def pools(self, epoch: int = 0) -> Iterator[list[np.ndarray]]:
        """The same batches, in lists of those that are to be read together."""
        check_integer("epoch", epoch, minimum=0)
        order = self._order(epoch)[self._shard]
        # Not the generator that drew the order, which all shards share.
        generator = np.random.default_rng([self.seed, epoch, self.num_shards, self.shard_index])
        for pool in self._cut(order):
            yield self._shuffled(pool, generator) if self.shuffle else self._split(pool)

    def _order(self, epoch: int) -> np.ndarray:
        """The order in which all shards together read."""
        order = np.flatnonzero(self.lengths) if self.skip_empty else np.arange(len(self.lengths))
        if not self.shuffle:
            return order
        generator = np.random.default_rng([self.seed, epoch])
        lengths = self.lengths[order]
        if lengths.sum() <= self.pool_tokens:
            return generator.permutation(order)
        begins = np.cumsum(lengths) - lengths
        _, blocks = np.unique(begins // max(1, self.pool_tokens // BLOCKS_IN_A_POOL), return_inverse=True)
        ranks = generator.permutation(blocks[-1] + 1)
        return order[np.argsort(ranks[blocks], kind="stable")]

    def _cut(self, order: np.ndarray) -> Iterator[np.ndarray]:
        """Pools of whole batches; only the last one may have a batch with fewer sentences."""
        size = self.pool_tokens if self.shuffle else max(1, self.pool_tokens // POOLS_IN_ORDER)
        ends = np.cumsum(self.lengths[order])
        start, read = 0, 0
        while start < len(order):
            stop = int(np.searchsorted(ends, read + size, side="right"))
            if stop < len(order):
                stop = min(len(order), start + max(1, (stop - start) // self.batch_size) * self.batch_size)
            yield order[start:stop]
            start, read = stop, ends[stop - 1]

    def _split(self, pool: np.ndarray) -> list[np.ndarray]:
        return np.split(pool, range(self.batch_size, len(pool), self.batch_size))

    def _shuffled(self, pool: np.ndarray, generator: np.random.Generator) -> list[np.ndarray]:
        pool = generator.permutation(pool)
        if not self.bucket_by_length:
            return self._split(pool)
        # What does not fill a batch must not always be the longest sentences.
        whole = len(pool) - len(pool) % self.batch_size
        keys = self.lengths[pool[:whole]] * generator.uniform(1 - LENGTH_NOISE, 1 + LENGTH_NOISE, whole)
        batches = pool[:whole][np.argsort(keys, kind="stable")].reshape(-1, self.batch_size)
        rest = [pool[whole:]] if whole < len(pool) else []
        return [*generator.permutation(batches), *rest]
