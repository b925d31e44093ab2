"""Pools of stored sentences, and padded batches of them: `PaddedBatches`."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from bridge.features.batches import BatchPlan
from bridge.features.buffers import Buffers
from bridge.features.labels import Labels

if TYPE_CHECKING:
    from bridge.features.store import FeatureStore

# Of the file: less would be too many calls, and more does not fit into the processor's caches.
BYTES_AT_ONCE = 1 << 23
# Numbers that TensorFlow casts in less time than NumPy, the call included.
WORTH_A_CALL = 1 << 15


class PaddedBatches:
    """Reads pools of a store's sentences, and makes padded batches of them.

    No call depends on those before it, but for the number of the epoch and for memory that it takes over: there may be
    several iterators at once, and each may stop anywhere.

    Args:
        store: what to read.
        plan: which sentences make which batch.
        labels: of the sentences, if any.
        initial_epoch: number of the epoch that begins first.
    """

    def __init__(self, store: FeatureStore, plan: BatchPlan, labels: Labels | None, initial_epoch: int) -> None:
        self._store, self._plan, self._labels = store, plan, labels
        self._epochs = itertools.count(initial_epoch)
        self._ends = np.cumsum(plan.lengths)
        # AllenNLP's own files may have others than native floats.
        self._dtype = store.dtype.newbyteorder("=")
        self._pool_buffers, self._batch_buffers = Buffers(), Buffers()

    def begin_epoch(self) -> list[np.ndarray]:
        """The sentences of the next epoch, and where each pool of them ends."""
        pools = [np.concatenate(pool) for pool in self._plan.pools(next(self._epochs))]
        return [np.concatenate(pools), np.cumsum([len(pool) for pool in pools])]

    def epoch_specs(self) -> list[tf.TensorSpec]:
        """The forms of what `begin_epoch` returns."""
        return [tf.TensorSpec((None,), tf.int64)] * 2

    def read(self, order: np.ndarray, ends: np.ndarray, number: int) -> list[np.ndarray]:
        """A pool: its sentences, where each begins in their features, and these.

        Args:
            order, ends: what `begin_epoch` has returned.
            number: of the pool.
        """
        sentences = order[ends[number - 1] if number else 0 : ends[number]]
        in_file = np.sort(sentences)
        lengths = self._plan.lengths[in_file]
        ends_in_file, ends_in_pool = self._ends[in_file], np.cumsum(lengths)
        features = self._pool_buffers.take((int(ends_in_pool[-1]), *self._store.token_shape), self._dtype)
        # A part is one stretch of the file, whether or not sentences without tokens are missing from it.
        parts = ends_in_pool // max(1, BYTES_AT_ONCE // (math.prod(features.shape[1:]) * self._dtype.itemsize))
        cuts = (parts[1:] != parts[:-1]) | (ends_in_file[1:] - lengths[1:] != ends_in_file[:-1])
        done = 0
        for part in np.split(in_file, np.flatnonzero(cuts) + 1):
            block, _ = self._store.read(int(part[0]), int(part[-1]) + 1)
            features[done : done + len(block)] = block
            done += len(block)
        begins = (ends_in_pool - lengths)[np.searchsorted(in_file, sentences)]
        return [sentences, begins, features]

    def pool_specs(self) -> list[tf.TensorSpec]:
        """The forms of what `read` returns."""
        return [*self.epoch_specs(), tf.TensorSpec((None, *self._store.token_shape), self._dtype)]

    def pad(self, sentences: np.ndarray, begins: np.ndarray, pool: np.ndarray, start: int) -> list[np.ndarray]:
        """A batch: features, mask and labels, if there are any.

        Args:
            sentences, begins, pool: what `read` has returned.
            start: place of the batch's first sentence in the pool.
        """
        rows = slice(start, start + self._plan.batch_size)
        sentences, begins, lengths = sentences[rows], begins[rows], self._plan.lengths[sentences[rows]]
        timesteps = max(1, int(lengths.max()))  # recurrent layers cannot run on none
        features = self._batch_buffers.take((len(sentences), timesteps, *pool.shape[1:]), np.dtype(np.float32))
        for row, begin, length in zip(features, begins.tolist(), lengths.tolist(), strict=True):
            _copy(pool[begin : begin + length], row[:length])
            row[length:] = 0
        labels = [] if self._labels is None else [self._labels.of(sentences, lengths, timesteps)]
        return [features, np.arange(timesteps) < lengths[:, None], *labels]

    def batch_specs(self) -> list[tf.TensorSpec]:
        """The forms of what `pad` returns."""
        rows = self._plan.batch_size if self._plan.drop_remainder else None
        specs = [
            tf.TensorSpec((rows, None, *self._store.token_shape), tf.float32),
            tf.TensorSpec((rows, None), tf.bool),
        ]
        if self._labels is not None:
            timesteps = (None,) if self._labels.of_tokens else ()
            specs.append(tf.TensorSpec((rows, *timesteps, *self._labels.shape), self._labels.dtype))
        return specs


def _copy(source: np.ndarray, target: np.ndarray) -> None:
    """Copies features, whatever their dtype, to float32."""
    if source.dtype == target.dtype or source.size < WORTH_A_CALL:
        target[...] = source
        return
    with tf.device("CPU"):  # twice as fast as NumPy, and as `tf.cast`, which copies first
        target[...] = tf.raw_ops.Cast(x=source, DstT=tf.float32).numpy()
