"""Examples as padded batches: `LabelledData`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from bridge.checks import check_integer
from bridge.errors import InputTypeError, InputValueError
from bridge.python_calls import counted, numpy_function
from bridge.text.readers import Example, Task


def labels_of(examples: Iterable[Example]) -> list[str]:
    """Every label or tag of the examples, sorted; `O` comes first."""
    found: set[str] = set()
    for example in examples:
        found.update([example.target] if isinstance(example.target, str) else example.target or ())
    return sorted(found, key=lambda label: (label != "O", label))


def check_labels(labels: Sequence[str]) -> list[str]:
    """The labels as a list.

    Raises:
        InputTypeError: they are not strings in an order.
        InputValueError: there are fewer than two, or one is there twice.
    """
    if not isinstance(labels, list | tuple) or not all(isinstance(label, str) for label in labels):
        raise InputTypeError(
            f"`labels` must be a list of strings, in the order of their indices. Received: {labels!r}."
        )
    if len(labels) < 2 or len(set(labels)) != len(labels):
        raise InputValueError(f"`labels` must be two or more different ones. Received: {labels!r:.200}.")
    return list(labels)


def check_tokens(tokens: Any, place: str = "") -> None:
    """Raises unless a sentence is a list of tokens, none of them empty; `place` is where it was read."""
    begin = f"{place}: a" if place else "A"
    if isinstance(tokens, str | bytes):
        raise InputTypeError(
            f"{begin} sentence must be a list of tokens. Received: {tokens!r:.80}. Split it first, for example with "
            "`.split()`."
        )
    if len(tokens) == 0 or not all(tokens):
        raise InputValueError(
            f"{begin} sentence must have tokens, none of them empty. Received: {tokens!r:.80}. Leave it out."
        )


def check_example(example: Example, task: Task) -> None:
    """Raises unless an example has tokens, and a label or as many tags."""
    check_tokens(example.tokens, example.place)
    begin = f"{example.place}: an" if example.place else "An"
    if task == "classify" and not isinstance(example.target, str):
        raise InputValueError(f"{begin} example must have a label, as a string. Received: {example.target!r:.80}.")
    if task == "tag" and not (isinstance(example.target, list) and len(example.target) == len(example.tokens)):
        raise InputValueError(
            f"{begin} example must have a list of tags, one for each of its {len(example.tokens)} tokens. Received: "
            f"{example.target!r:.80}."
        )


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
        InputTypeError, InputValueError: there are no examples, one has no tokens or not as many tags, or a label that
            is not in `labels`.

    Example:
        >>> data = LabelledData(read_examples("train.tsv", task="classify"), labels=["blame", "praise"])
        >>> model.fit(data.batches(32, shuffle_seed=0), epochs=5)
    """

    def __init__(self, examples: Iterable[Example], labels: Sequence[str]) -> None:
        examples = list(examples)
        if not examples:
            raise InputValueError("Data must have an example at least. Received: none.")
        self.task: Task = "tag" if isinstance(examples[0].target, list) else "classify"
        """What the first example has."""
        self.labels = check_labels(labels)
        index = {label: number for number, label in enumerate(labels)}
        lengths = np.array([len(example.tokens) for example in examples], dtype=np.int64)
        digest = hashlib.sha256()
        for example in examples:
            check_example(example, self.task)
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
        if self.task == "classify":
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

        @counted
        def order() -> np.ndarray:
            if shuffle_seed is None:
                return np.argsort(self._lengths, kind="stable")
            return np.random.default_rng([shuffle_seed, self.epoch]).permutation(len(self))

        def rows_of_an_epoch(_: tf.Tensor) -> tf.data.Dataset:
            # A call into Python at the begin of every epoch; the batches are TensorFlow's own.
            rows = numpy_function(order, [], tf.int64, stateful=True)
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
