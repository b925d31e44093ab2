"""What a tagger gets right, without its padding, as Keras metrics: `TokenAccuracy` and `EntityScores`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from bridge.errors import InputValueError
from bridge.optional import require
from bridge.python_calls import counted, numpy_function

OUTSIDE = "O"
ENTITY_TAG = re.compile(r"[BIES]-.+")


def has_entities(labels: Sequence[str]) -> bool:
    """Whether these are tags of entities: `O`, and `B-X` and `I-X` (also `E-X` and `S-X`) for entities of type X.

    Raises:
        InputValueError: they are BILOU tags, which `seqeval`'s conlleval mode does not read.
    """
    prefixed = [label for label in labels if label != OUTSIDE]
    if any(re.match("[BI]-", label) for label in prefixed):
        bilou = [label for label in prefixed if re.match("[LU]-", label)]
        if bilou:
            raise InputValueError(
                "`labels` of entities must be BIO or IOBES tags. Received: the BILOU tags "
                f"{', '.join(bilou)}. Write E- for L- and S- for U-."
            )
    return bool(prefixed) and all(ENTITY_TAG.fullmatch(label) for label in prefixed)


def _known(y_true: tf.Tensor, y_pred: Any, sample_weight: Any) -> tf.Tensor:
    """Bool `(batch, timesteps)`: where neither the mask nor a weight of 0 says padding."""
    mask = getattr(y_pred, "_keras_mask", None)
    known = tf.ones_like(y_true, dtype=tf.bool) if mask is None else tf.cast(mask, tf.bool)
    if sample_weight is None:
        return known
    return known & tf.broadcast_to(tf.cast(sample_weight, tf.bool), tf.shape(known))


@keras.saving.register_keras_serializable(package="elmo_keras_bridge")
class TokenAccuracy(keras.metrics.Metric):
    """The share of tokens whose most probable tag is right.

    Keras's own `"accuracy"` weighs a batch by its tokens divided by its timesteps, so that over several batches it
    changes with their padding. This one counts tokens.

    Args:
        name: as it shows in a history.
        **kwargs: `dtype`.

    Call arguments:
        y_true: integer `(batch, timesteps)`, the index of each tag.
        y_pred: `(batch, timesteps, num_labels)`, with the Keras mask that a model's layers give it.
        sample_weight: optional; what has the weight 0 counts as padding.
    """

    def __init__(self, name: str = "accuracy", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self.right, self.tokens = (
            self.add_variable((), "zeros", dtype="int64", name=name) for name in ("right", "all")
        )

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        y_true = tf.cast(y_true, tf.int32)
        known = _known(y_true, y_pred, sample_weight)
        right = known & (tf.argmax(y_pred, axis=-1, output_type=tf.int32) == y_true)
        for variable, values in ((self.right, right), (self.tokens, known)):
            variable.assign_add(tf.math.count_nonzero(values))

    def result(self) -> Any:
        return tf.math.divide_no_nan(tf.cast(self.right.value, tf.float32), tf.cast(self.tokens.value, tf.float32))


@keras.saving.register_keras_serializable(package="elmo_keras_bridge")
class EntityScores(keras.metrics.Metric):
    """Precision, recall and F1 of whole entities, micro-averaged, as `conlleval` counts them.

    An entity is right when its begin, its end and its type are. `seqeval` finds the entities in its default mode,
    which is that of CoNLL's `conlleval` script and of AllenNLP's `SpanBasedF1Measure`: an `I-X` without a `B-X`
    before it begins an entity, so that IOB1 and IOB2 files both count as they should. Padding counts as outside.

    Args:
        labels: the tag of every class.
        **kwargs: `name` and `dtype`.

    Call arguments:
        y_true: integer `(batch, timesteps)`, the index of each tag in `labels`.
        y_pred: `(batch, timesteps, num_labels)`, with the Keras mask that a model's layers give it.
        sample_weight: optional; what has the weight 0 counts as padding.

    Returns:
        `result()` is a dict of `precision`, `recall` and `f1`; 0 where there is nothing to count.

    Raises:
        MissingDependencyError: `seqeval` is not installed.
        InputValueError: `labels` are not tags of entities.

    Reference:
        Nakayama 2018, `seqeval`; Tjong Kim Sang and De Meulder 2003, "Introduction to the CoNLL-2003 shared task".
    """

    def __init__(self, labels: Sequence[str], name: str = "entities", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        if not has_entities(labels):
            raise InputValueError(f"`labels` must be BIO tags, such as O, B-PER, I-PER. Received: {list(labels)}.")
        self.labels = [str(label) for label in labels]
        self._tags = np.array(self.labels, dtype=object)
        self._get_entities = require("seqeval.metrics.sequence_labeling", "heads").get_entities
        self.right, self.predicted, self.gold = (
            self.add_variable((), "zeros", dtype="int64", name=name) for name in ("right", "predicted", "gold")
        )

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        y_true = tf.cast(y_true, tf.int32)
        known = _known(y_true, y_pred, sample_weight)
        guessed = tf.argmax(y_pred, axis=-1, output_type=tf.int32)
        if tf.executing_eagerly():
            counts = tf.constant(self._count(y_true.numpy(), guessed.numpy(), known.numpy()))
        else:
            counts = numpy_function(self._count, [y_true, guessed, known], tf.int64, stateful=False)
            counts = tf.ensure_shape(counts, [3])
        for variable, count in zip((self.right, self.predicted, self.gold), tf.unstack(counts), strict=True):
            variable.assign_add(count)

    @counted
    def _count(self, y_true: np.ndarray, y_pred: np.ndarray, known: np.ndarray) -> np.ndarray:
        """Entities of a batch that are right, that were predicted, and that there are."""
        # A list of sentences keeps them apart; what is unknown is outside.
        gold, predicted = (
            set(self._get_entities(np.where(known, self._tags[np.where(known, ids, 0)], OUTSIDE).tolist()))
            for ids in (y_true, y_pred)
        )
        return np.array([len(gold & predicted), len(predicted), len(gold)], dtype=np.int64)

    def result(self) -> dict[str, Any]:
        right, predicted, gold = (
            tf.cast(variable.value, tf.float32) for variable in (self.right, self.predicted, self.gold)
        )
        return {
            "precision": tf.math.divide_no_nan(right, predicted),
            "recall": tf.math.divide_no_nan(right, gold),
            "f1": tf.math.divide_no_nan(2 * right, predicted + gold),
        }

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "labels": self.labels}
