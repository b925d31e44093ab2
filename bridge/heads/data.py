"""Examples as padded batches: `LabelledData`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from bridge.checks import check_integer
from bridge.errors import InputValueError
from bridge.text.readers import Example


def labels_of(examples: Iterable[Example]) -> list[str]:
    """Every label or tag of the examples, sorted; `O` comes first."""
    found: set[str] = set()
    for example in examples:
        found.update([example.target] if isinstance(example.target, str) else example.target or ())
    return sorted(found, key=lambda label: (label != "O", label))


def pad(sentences: Sequence[Sequence[str]]) -> tf.Tensor:
    """String tokens `(batch, timesteps)`, `""` as padding."""
    return _ragged(
        [token for tokens in sentences for token in tokens], tf.string, list(map(len, sentences))
    ).to_tensor()


class LabelledData:
    """Examples in memory, as batches that are each padded to their own longest sentence.

    Args:
        examples: `bridge.text.readers.Example`s, all with a label or all with tags.
        labels: the labels or tags, in the order of their indices.

    Raises:
        InputValueError: there are no examples, or one has a label that is not in `labels`.

    Example:
        >>> data = LabelledData(read_examples("train.tsv", task="classify"), labels=["blame", "praise"])
        >>> model.fit(data.batches(32, shuffle_seed=0), epochs=5)
    """

    def __init__(self, examples: Iterable[Example], labels: Sequence[str]) -> None:
        examples = list(examples)
        if not examples:
            raise InputValueError("Data must have an example at least. Received: none.")
        index = {label: number for number, label in enumerate(labels)}
        lengths = np.array([len(example.tokens) for example in examples], dtype=np.int64)
        digest = hashlib.sha256()
        for example in examples:
            digest.update(json.dumps([example.tokens, example.target]).encode() + b"\n")
            found: list[Any] = example.target if isinstance(example.target, list) else [example.target]
            for label in found:
                if label not in index:
                    raise InputValueError(
                        f"{example.place or 'An example'}: a label must be one of {', '.join(labels)}. "
                        f"Received: {label!r}."
                    )
        self.epoch = 0
        """Which epoch's order `batches(shuffle_seed=...)` takes next."""
        self.fingerprint = digest.hexdigest()
        """SHA-256 of the sentences and their labels, in their order."""
        self._lengths = lengths
        self._tokens = _ragged([token for example in examples for token in example.tokens], tf.string, lengths)
        if isinstance(examples[0].target, str):
            self._targets: Any = tf.constant([index[str(example.target)] for example in examples], tf.int32)
        else:
            tags = [index[tag] for example in examples for tag in example.target or ()]
            self._targets = _ragged(tags, tf.int32, lengths)

    def __len__(self) -> int:
        return len(self._lengths)

    def batches(self, batch_size: int, shuffle_seed: int | None = None) -> tf.data.Dataset:
        """String tokens `(batch, timesteps)` and targets `(batch,)` or `(batch, timesteps)`, for Keras's `fit`.

        Args:
            batch_size: sentences in a batch; the last one may have fewer.
            shuffle_seed: shuffles, differently in every `epoch` and always alike for one seed and one epoch. Without
                it the shortest sentences come first, which needs the least padding.
        """
        check_integer("batch_size", batch_size, minimum=1)

        def order() -> np.ndarray:
            if shuffle_seed is None:
                return np.argsort(self._lengths, kind="stable")
            return np.random.default_rng([shuffle_seed, self.epoch]).permutation(len(self))

        def rows_of_an_epoch(_: tf.Tensor) -> tf.data.Dataset:
            # A call into Python at the begin of every epoch; the batches are TensorFlow's own.
            rows = tf.numpy_function(order, [], tf.int64, stateful=True)
            return tf.data.Dataset.from_tensor_slices(tf.ensure_shape(rows, [None]))

        def gather(rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            targets = tf.gather(self._targets, rows)
            is_ragged = isinstance(targets, tf.RaggedTensor)
            return tf.gather(self._tokens, rows).to_tensor(), targets.to_tensor() if is_ragged else targets

        batches = tf.data.Dataset.range(1).flat_map(rows_of_an_epoch).batch(batch_size).map(gather)
        steps = -(-len(self) // batch_size)
        return batches.apply(tf.data.experimental.assert_cardinality(steps)).prefetch(2)


def _ragged(values: Sequence[Any], dtype: tf.DType, lengths: Any) -> tf.RaggedTensor:
    with tf.device("CPU"):
        flat = tf.constant(values, dtype, shape=(len(values),))
        return tf.RaggedTensor.from_row_lengths(flat, tf.cast(lengths, tf.int64))
