"""The sentences of a corpus without end, shuffled a window at a time: `ShuffledSentences`."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np

from bridge.corpus.sources import Corpus, Sentence
from bridge.errors import InputValueError
from bridge.pretrain.vocabulary import check_no_reserved_token

# A window ends with the sentence that makes it so many tokens: lines may be whole documents. About 60 MB.
WINDOW_TOKENS = 1_000_000


class ShuffledSentences:
    """The sentences of a corpus, epoch after epoch, in an order that only the arguments decide.

    Empty lines are passed over. Each window of consecutive sentences is shuffled by `seed`, the epoch and the
    window's number; memory holds one window.

    Args:
        corpus: the text, in files: it is read once an epoch.
        seed: of the order.
        window_sentences: the most sentences of a window.

    Attributes:
        epoch: of the sentence that was read last, from 0.

    Raises:
        InputValueError: the text has no tokens, or holds `<S>`, `</S>` or `<UNK>`.
    """

    def __init__(self, corpus: Corpus, seed: int, window_sentences: int) -> None:
        self._corpus = corpus
        self._seed = seed
        self._window_sentences = window_sentences
        self._open(epoch=0, window=0, line=0)

    def __iter__(self) -> Iterator[list[str]]:
        return self

    def __next__(self) -> list[str]:
        while self._taken == len(self._order):
            self._next_window()
        sentence = self._sentences[self._order[self._taken]]
        self._taken += 1
        return sentence

    def state(self) -> dict[str, Any]:
        """The position, as JSON."""
        return {
            "epoch": self.epoch,
            "window": self._window,
            "first_line": self._first_line,
            "taken": self._taken,
            "sha256": self._sha256(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Goes on from `state()` of the same corpus and arguments.

        Raises:
            InputValueError: the text is another one.
        """
        self._open(state["epoch"], state["window"], state["first_line"])
        deque(islice(self._source, self._first_line), maxlen=0)
        if state["sha256"] is not None:
            self._read_window()
        if self._sha256() != state["sha256"]:
            raise InputValueError(
                "`inputs` must hold the text with which training began, to go on from there. Received: other text from "
                f"line {state['first_line'] + 1:,} on (of all inputs together). Give the same files, unchanged and in "
                "the same order, or begin anew."
            )
        self._taken = state["taken"]

    def _open(self, epoch: int, window: int, line: int) -> None:
        self.epoch = epoch
        self._source: Iterator[Sentence] = self._corpus.sentences()
        self._window = window
        self._first_line = self._line = line  # lines before the window, and before what is read next
        self._sentences: list[list[str]] = []
        self._order: list[int] = []
        self._taken = 0

    def _next_window(self) -> None:
        if self._sentences:
            self._window += 1
            self._first_line = self._line
        self._read_window()
        if not self._sentences:
            if not self._window:
                raise InputValueError(
                    f"`inputs` must have a token at least. Received: {', '.join(self._corpus.names)!r:.300}, with "
                    "empty lines only, or none. Give files with a sentence a line."
                )
            self._open(self.epoch + 1, window=0, line=0)

    def _read_window(self) -> None:
        sentences: list[list[str]] = []
        tokens = 0
        for sentence in self._source:
            self._line += 1
            if sentence.tokens:
                check_no_reserved_token(sentence.tokens, self._line)
                sentences.append(sentence.tokens)
                tokens += len(sentence.tokens)
                if len(sentences) == self._window_sentences or tokens >= WINDOW_TOKENS:
                    break
        self._sentences = sentences
        self._order = np.random.default_rng([self._seed, self.epoch, self._window]).permutation(len(sentences)).tolist()
        self._taken = 0

    def _sha256(self) -> str | None:
        """Of the window's text; None before the first one is read."""
        if not self._sentences:
            return None
        text = "\n".join(map(" ".join, self._sentences))
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
