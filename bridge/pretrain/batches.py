"""Text as batches of training and of evaluation: `TrainingBatches` and `held_out_batches`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from bridge.checks import check_integer
from bridge.corpus.sources import Corpus
from bridge.errors import InputValueError
from bridge.pretrain.rows import Positions, Rows
from bridge.pretrain.shuffled_sentences import ShuffledSentences
from bridge.pretrain.text import held_out_sentences
from bridge.pretrain.vocabulary import Vocabulary
from bridge.text.characters import batch_to_ids

NOTHING_TO_PREDICT = -1


class Batch(NamedTuple):
    """One step of truncated backpropagation, for all rows. Index 0 of the first axis is forward, 1 is backward."""

    char_ids: np.ndarray
    """int64 `(distinct_tokens, 50)`: the character ids of each token that the batch reads, once."""
    inputs: np.ndarray
    """int64 `(2, unroll_steps, batch_size)`: which row of `char_ids` is read."""
    targets: np.ndarray
    """int64 `(2, unroll_steps, batch_size)`: vocabulary ids; -1 where a held-out text has ended."""


class TrainingBatches:
    """The batches of a corpus, without end. Each row goes on where it stopped in the batch before.

    Rows are filled one after the other; a row takes the next sentence when its own ends. Memory holds a window of
    sentences, never the corpus.

    Args:
        corpus: the text: files, which are read once an epoch.
        vocabulary: the targets.
        batch_size: number of rows.
        unroll_steps: positions of each row in a batch.
        seed: of the order of the sentences.
        window_sentences: how many consecutive sentences are shuffled together. A window also ends with a million
            tokens.

    Raises:
        InputTypeError, InputValueError: an argument; or, while it is read, the text: it has no tokens, or holds
            `<S>`, `</S>` or `<UNK>`.

    Example:
        >>> batches = TrainingBatches(Corpus("news.txt.gz"), vocabulary, batch_size=128, unroll_steps=20, seed=0)
        >>> next(batches).targets.shape
        (2, 20, 128)

    Reference:
        Peters et al. 2018, section 3; bilm-tf, `bilm.data.BidirectionalLMDataset`.
    """

    def __init__(
        self,
        corpus: Corpus,
        vocabulary: Vocabulary,
        *,
        batch_size: int,
        unroll_steps: int,
        seed: int,
        window_sentences: int = 20_000,
    ) -> None:
        check_integer("seed", seed, minimum=0)
        check_integer("window_sentences", window_sentences, minimum=1)
        self._vocabulary = vocabulary
        self._rows = Rows(batch_size, unroll_steps)
        self._sentences = ShuffledSentences(corpus, seed, window_sentences)
        self._settings = {
            "batch_size": batch_size,
            "unroll_steps": unroll_steps,
            "seed": seed,
            "window_sentences": window_sentences,
        }

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        return _batch(self._rows.take(self._sentences), self._vocabulary)

    @property
    def epoch(self) -> int:
        """Of the sentence that was read last, from 0."""
        return self._sentences.epoch

    def state(self) -> dict[str, Any]:
        """The exact position, as JSON: a few hundred bytes a row."""
        return {"settings": dict(self._settings), "sentences": self._sentences.state(), "rows": self._rows.state()}

    def restore(self, state: dict[str, Any]) -> None:
        """Goes on from `state()` of the same text and settings, bit for bit.

        Raises:
            InputValueError: the settings are others, or the text is.
        """
        if state["settings"] != self._settings:
            raise InputValueError(
                f"The settings of the batches must be those of the state. Received: {self._settings} and a state of "
                f"{state['settings']}. Give the same ones, or begin anew."
            )
        self._sentences.restore(state["sentences"])
        self._rows.restore(state["rows"])


def held_out_batches(corpus: Corpus, vocabulary: Vocabulary, *, batch_size: int, unroll_steps: int) -> Iterator[Batch]:
    """One pass over a text in its order: every position of every sentence once.

    Args:
        corpus: the text, in files.
        vocabulary: the targets.
        batch_size: number of rows.
        unroll_steps: positions of each row in a batch.

    Returns:
        Batches. Where a row has no more text, its targets are -1.

    Raises:
        InputTypeError, InputValueError: as of `TrainingBatches`.
    """
    return _held_out_batches(corpus, vocabulary, Rows(batch_size, unroll_steps))


def _held_out_batches(corpus: Corpus, vocabulary: Vocabulary, rows: Rows) -> Iterator[Batch]:
    sentences = held_out_sentences(corpus)
    positions = rows.take(sentences)
    while positions.known:
        yield _batch(positions, vocabulary)
        positions = rows.take(sentences)


def _batch(positions: Positions, vocabulary: Vocabulary) -> Batch:
    read = positions.inputs[0] + positions.inputs[1]
    index = {token: number for number, token in enumerate(dict.fromkeys(read))}
    targets = np.array([vocabulary.ids(tokens) for tokens in positions.targets], dtype=np.int64)
    for part in positions.ended:
        targets[:, part] = NOTHING_TO_PREDICT
    inputs = np.fromiter(map(index.__getitem__, read), dtype=np.int64, count=len(read))
    # Row after row becomes step after step.
    shape = (2, *positions.shape)
    return Batch(
        char_ids=batch_to_ids([list(index)])[0].astype(np.int64),
        inputs=np.ascontiguousarray(inputs.reshape(shape).transpose(0, 2, 1)),
        targets=np.ascontiguousarray(targets.reshape(shape).transpose(0, 2, 1)),
    )
