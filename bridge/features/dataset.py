"""Stored features as padded batches for Keras: `feature_dataset`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from bridge.checks import check_boolean, check_integer
from bridge.errors import InputValueError
from bridge.features.batches import POOL_TOKENS, BatchPlan
from bridge.features.handles import handle_of, object_of
from bridge.features.labels import Labels
from bridge.features.padding import PaddedBatches
from bridge.python_calls import counted, numpy_function

if TYPE_CHECKING:
    from bridge.features.store import FeatureStore


def feature_dataset(
    store: FeatureStore,
    labels: Any = None,
    *,
    batch_size: int = 32,
    shuffle: bool = False,
    seed: int = 0,
    bucket_by_length: bool = True,
    num_shards: int = 1,
    shard_index: int = 0,
    drop_remainder: bool = False,
    skip_empty: bool | None = None,
    with_mask: bool = False,
    initial_epoch: int = 0,
    pool_tokens: int = POOL_TOKENS,
) -> tf.data.Dataset:
    """Returns a store's features as batches, each padded with zeros to its longest sentence, for `fit` and `predict`.

    Every iteration over the dataset is an epoch, and `fit` iterates once an epoch. With `shuffle` each has an order of
    its own, which follows from `seed` and the number of the epoch: the same program sees the same batches whenever it
    runs. Without it the order is the store's, so that row `i` of `predict` belongs to sentence `i`.

    Features are read in bulk, and ahead. In memory are up to three pools of `pool_tokens` tokens and a few batches,
    however large the store is: with `shuffle`, all layers of the original model and float32, 200 MB a pool; without
    `shuffle` an eighth of that. The memory is kept for the next epoch, until the dataset is gone.

    Args:
        store: an open FeatureStore. The dataset reads from it, in this process, for as long as it is iterated.
        labels: of each sentence: an array `(sentences, ...)` or a list of numbers. Or of each token: a list with a
            sequence of numbers for each sentence (one-hot rows go in an array, so as not to be taken for these).
        batch_size: sentences in a batch. The last batch of an epoch may have fewer.
        shuffle: shuffles, differently in every epoch: blocks of consecutive sentences, and all sentences in pools of
            such blocks. A store that fits into one pool is shuffled uniformly. See `BatchPlan`.
        seed: of the shuffle.
        bucket_by_length: with `shuffle`, makes batches of sentences of similar length, which need less padding.
        num_shards, shard_index: takes one of several equal shards, for the workers of a distributed training: they
            are disjoint and together the whole in every epoch. Give all workers the same `seed`, and
            `drop_remainder=True` if they must do as many steps.
        drop_remainder: drops the sentences that do not fill a batch.
        skip_empty: sentences without tokens: True leaves them out, with their labels; False makes them rows of
            padding. None, the default, is False without labels, and an error with them: most heads that pool make
            NaN of such a row, and all weights NaN in training.
        with_mask: for models that take the mask as an input. Others need none, see below.
        initial_epoch: number of the first epoch, to go on with a training: that of `fit`.
        pool_tokens: tokens that are read, and with `shuffle` mixed, at a time.

    Returns:
        A tf.data.Dataset that knows its number of batches, of elements
        `features`: float32 `(batch, timesteps, num_layers, output_dim)`, or `(batch, timesteps, output_dim)` where the
        store has one layer. `timesteps` is at least 1;
        `(features, labels)`: with labels, in their own dtype, `(batch, ...)` or `(batch, timesteps, ...)` with 0 at
        padding.
        With `with_mask`, in the place of features, `{"elmo_features": features, "mask": mask}` with the bool mask
        `(batch, timesteps)`; and after labels of tokens the mask again, float32, as Keras's `sample_weight`.

    Masking:
        The heads of `split_head` find padding by its zeros. A model of your own does with `keras.layers.Masking()`
        after `ScalarMix()`, or in the place of it where the store has one layer. Then the mask keeps padding out of
        losses and metrics. An explicit `mask` argument does not reach the loss; the `sample_weight` does, best with
        `reduction="mean_with_sample_weight"`: Keras's default divides by the number of timesteps, padding or not.

    Raises:
        InputTypeError, InputValueError: an argument is of another type or out of its range, labels are not as many as
            sentences or tokens, there are sentences without tokens and labels, or not one batch.
        A damaged store ends the iteration: TensorFlow raises an `InvalidArgumentError` with the message of the
            FeatureStoreError.

    Example:
        >>> store = FeatureStore.open("train.hdf5")
        >>> model = keras.Sequential([
        ...     keras.Input((None, 3, 1024)), ScalarMix(), keras.layers.Masking(),
        ...     keras.layers.Bidirectional(keras.layers.LSTM(64)), keras.layers.Dense(2),
        ... ])
        >>> model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        >>> model.fit(store.dataset(labels, shuffle=True, seed=1), epochs=5, shuffle=False)  # Keras's is for arrays
        >>> store.dataset(np.arange(len(store)))  # batches with the numbers of their sentences
    """
    check_boolean("with_mask", with_mask)
    check_integer("initial_epoch", initial_epoch, minimum=0)
    labels_of = None if labels is None else Labels(labels, store.lengths)
    if skip_empty is None:
        skip_empty = False
        if labels is not None and not store.lengths.all():
            empty = np.flatnonzero(store.lengths == 0)
            raise InputValueError(
                f"`skip_empty` must be given where sentences with labels have no tokens. Received: {len(empty)} such "
                f"sentences, the first is number {empty[0]}. Use `skip_empty=True` to leave them out, or "
                "`skip_empty=False` for rows of padding, which most heads that pool turn into NaN."
            )
    plan = BatchPlan(
        store.lengths,
        batch_size=batch_size,
        shuffle=shuffle,
        seed=seed,
        bucket_by_length=bucket_by_length,
        num_shards=num_shards,
        shard_index=shard_index,
        drop_remainder=drop_remainder,
        skip_empty=skip_empty,
        pool_tokens=pool_tokens,
    )
    if not len(plan):
        raise InputValueError(
            f"A dataset must have a batch at least. Received: none, of {len(store)} sentences with "
            f"batch_size={batch_size}, num_shards={num_shards}, drop_remainder={drop_remainder}, "
            f"skip_empty={skip_empty}."
        )
    batches = PaddedBatches(store, plan, labels_of, initial_epoch)
    has_weights = labels_of is not None and labels_of.of_tokens and with_mask

    def element(features: tf.Tensor, mask: tf.Tensor, *labels: tf.Tensor) -> Any:
        inputs = {"elmo_features": features, "mask": mask} if with_mask else features
        weights = [tf.cast(mask, tf.float32)] if has_weights else []
        return (inputs, *labels, *weights) if labels else inputs

    dataset = _batches(batches, batch_size, element)
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(len(plan)))
    if num_shards > 1:
        options = tf.data.Options()  # a distribution strategy must not divide the shard once more
        options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
        dataset = dataset.with_options(options)
    return dataset.prefetch(2)


def _batches(batches: PaddedBatches, batch_size: int, element: Callable[..., Any]) -> tf.data.Dataset:
    """The batches as elements. Not by `from_generator`, from whose use on HDF5 takes twice as long to read.

    It tells the whole process to give large memory back to the system each time.
    """
    handle = handle_of(batches)
    epoch_specs, pool_specs, batch_specs = batches.epoch_specs(), batches.pool_specs(), batches.batch_specs()

    def pools_of_an_epoch(_: tf.Tensor) -> tf.data.Dataset:
        order, ends = _call(_begin_epoch, [handle], epoch_specs)
        numbers = tf.data.Dataset.range(tf.size(ends, tf.int64))
        # The next pool is read while the batches of this one are made.
        return numbers.map(lambda number: _call(_read, [handle, order, ends, number], pool_specs)).prefetch(1)

    def batches_of_a_pool(*pool: tf.Tensor) -> tf.data.Dataset:
        starts = tf.data.Dataset.range(0, tf.size(pool[0], tf.int64), batch_size)
        return starts.map(lambda start: element(*_call(_pad, [handle, *pool, start], batch_specs)))

    return tf.data.Dataset.range(1).flat_map(pools_of_an_epoch).flat_map(batches_of_a_pool)


def _call(function: Callable[..., Any], arguments: list[Any], specs: list[tf.TensorSpec]) -> tuple[tf.Tensor, ...]:
    tensors = numpy_function(function, arguments, [spec.dtype for spec in specs])
    return tuple(tf.ensure_shape(tensor, spec.shape) for tensor, spec in zip(tensors, specs, strict=True))


@counted
def _begin_epoch(handle: np.ndarray) -> list[np.ndarray]:
    return object_of(handle).begin_epoch()


@counted
def _read(handle: np.ndarray, *arguments: Any) -> list[np.ndarray]:
    return object_of(handle).read(*arguments)


@counted
def _pad(handle: np.ndarray, *arguments: Any) -> list[np.ndarray]:
    return object_of(handle).pad(*arguments)
