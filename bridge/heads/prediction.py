"""A trained head: `Head` predicts and evaluates, one batch after the other."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from bridge.checks import check_integer
from bridge.errors import CheckpointError, InputValueError, ResourceNotFoundError
from bridge.heads.data import check_example, check_tokens, pad
from bridge.heads.metrics import OUTSIDE, has_entities
from bridge.heads.run_folder import RunFolder
from bridge.optional import require
from bridge.text.readers import Example, Task


class Prediction(NamedTuple):
    """What a head says of a sentence."""

    target: str | list[str]
    """The most probable label, or the most probable tag of every token."""
    probabilities: np.ndarray
    """float32 `(num_labels,)`, or `(timesteps, num_labels)`."""


class Head:
    """A model with the names of its labels.

    Args:
        model: string tokens `(batch, timesteps)` to probabilities.
        task: `"classify"` or `"tag"`.
        labels: the labels, in the order of their indices.

    Example:
        >>> head = Head.load("run")
        >>> [prediction.target for prediction in head.predict([["not", "bad"]])]
        ['praise']
    """

    def __init__(self, model: keras.Model, task: Task, labels: Sequence[str]) -> None:
        self.model, self.task, self.labels = model, task, list(labels)
        # One graph for every length; Keras's own predict would trace some.
        self._run = tf.function(
            lambda tokens: model(tokens, training=False),
            input_signature=[tf.TensorSpec([None, None], tf.string)],
            autograph=False,
        )

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Head:
        """The best model of a run folder.

        Raises:
            ResourceNotFoundError: there is no run, or no epoch of it is done; or the ELMo weights are gone.
            CheckpointError: the model is damaged, or the ELMo weights are others than those of the training.
        """
        run_folder = RunFolder(folder)
        settings = run_folder.settings()
        if not run_folder.model_file.exists():
            raise ResourceNotFoundError(
                f"The run must have trained for an epoch at least. Received: {str(run_folder.path)!r}, which has no "
                "model yet. Continue it with `elmo-bridge train --resume`."
            )
        if not zipfile.is_zipfile(run_folder.model_file):
            raise CheckpointError(
                f"The model of a run must be a `.keras` file. Received: {str(run_folder.model_file)!r}, which is "
                "damaged. Train again."
            )
        return cls(keras.models.load_model(run_folder.model_file, compile=False), settings["task"], settings["labels"])

    def predict(self, sentences: Iterable[Sequence[str]], batch_size: int = 32) -> Iterator[Prediction]:
        """Predictions in the order of the sentences, which are read as they are needed.

        Raises:
            InputTypeError, InputValueError: see `predict_batch`.
        """
        check_integer("batch_size", batch_size, minimum=1)
        sentences = iter(sentences)
        while batch := list(islice(sentences, batch_size)):
            yield from self.predict_batch(batch)

    def predict_batch(self, sentences: Sequence[Sequence[str]]) -> list[Prediction]:
        """Predictions for the sentences of one batch, each a list of tokens.

        Raises:
            InputTypeError: a sentence is a string.
            InputValueError: a sentence has no tokens, or an empty one.
        """
        for tokens in sentences:
            check_tokens(tokens)
        if not sentences:
            return []
        probabilities = self._run(pad(sentences)).numpy()
        if self.task == "classify":
            return [Prediction(self.labels[int(row.argmax())], row) for row in probabilities]
        rows = [row[: len(tokens)] for row, tokens in zip(probabilities, sentences, strict=True)]
        return [Prediction([self.labels[index] for index in row.argmax(axis=-1)], row) for row in rows]

    def evaluate(self, examples: Iterable[Example], batch_size: int = 32) -> dict[str, Any]:
        """Scores of the head on examples with labels or tags.

        Returns:
            `examples`, `accuracy` (of sentences or of tokens) and, for BIO tags, `precision`, `recall` and `f1` of
            entities, and under `entities` the same by type, each with `support`, the number of gold entities.

        Raises:
            InputTypeError, InputValueError: there are no examples, one has no label or not as many tags as tokens, or
                their tags are not BIO where those of the head are.
        """
        check_integer("batch_size", batch_size, minimum=1)
        scores_entities = self.task == "tag" and has_entities(self.labels)
        report_of = require("seqeval.metrics", "heads").classification_report if scores_entities else None
        gold: list[Any] = []
        predicted: list[Any] = []
        examples = iter(examples)
        while batch := list(islice(examples, batch_size)):
            for example in batch:
                check_example(example, self.task)
            gold.extend(example.target for example in batch)
            predicted.extend(prediction.target for prediction in self.predict_batch([item.tokens for item in batch]))
        if not gold:
            raise InputValueError("There must be an example to evaluate at least. Received: none.")
        pairs = (
            list(zip(gold, predicted, strict=True))
            if self.task == "classify"
            else list(zip(chain.from_iterable(gold), chain.from_iterable(predicted), strict=True))
        )
        scores: dict[str, Any] = {
            "examples": len(gold),
            "accuracy": sum(wanted == given for wanted, given in pairs) / len(pairs),
        }
        if report_of is not None:
            tags = sorted(set(chain.from_iterable(gold)))
            if not has_entities([*self.labels, *tags]):
                raise InputValueError(f"The tags must be BIO tags, as the head's are. Received: {', '.join(tags)}.")
            rows = {"micro avg": dict.fromkeys(("precision", "recall", "f1"), 0.0)}
            if {*chain.from_iterable(gold), *chain.from_iterable(predicted)} != {OUTSIDE}:  # seqeval would warn
                report = report_of(gold, predicted, output_dict=True, zero_division=0)
                rows = {name: _scores(row) for name, row in report.items()}
            scores |= {name: rows["micro avg"][name] for name in ("precision", "recall", "f1")}
            scores["entities"] = {name: row for name, row in rows.items() if not name.endswith(" avg")}
        return scores


def _scores(row: dict[str, Any]) -> dict[str, float]:
    return {
        "precision": float(row["precision"]),
        "recall": float(row["recall"]),
        "f1": float(row["f1-score"]),
        "support": int(row["support"]),
    }
