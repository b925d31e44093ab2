"""The text of the benchmark: made-up words as frequent as those of a language, or a file."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from bridge import batch_to_ids
from bridge.errors import InputValueError
from bridge.text.readers import Example, read_examples

# Zipf's law as Mandelbrot corrected it: the word of rank r is drawn in proportion to 1 / (r + OFFSET)^EXPONENT. So
# drawn, 10,000 tokens hold about 2,800 distinct words, 100,000 tokens 14,600 and a million 56,000: much like English
# text, which is what decides how often the cache of token vectors is hit.
EXPONENT, OFFSET, WORDS = 1.2, 2.7, 100_000
MEAN_LENGTH = 20  # of a sentence: 1 and a Poisson number
LETTERS = "etaoinshrdlu"


class Batch(NamedTuple):
    """Sentences and their character ids, as each contestant wants them."""

    sentences: list[list[str]]
    char_ids: np.ndarray
    torch_ids: torch.Tensor

    @classmethod
    def of(cls, examples: list[Example]) -> Batch:
        """The batch of these sentences."""
        sentences = [example.tokens for example in examples]
        char_ids = batch_to_ids(sentences)
        return cls(sentences, char_ids, torch.from_numpy(char_ids.astype("int64")))

    @property
    def tokens(self) -> int:
        """Number of tokens."""
        return sum(map(len, self.sentences))


def zipf_examples(seed: int) -> Iterator[Example]:
    """Endless sentences of made-up words, the common words short."""
    generator = np.random.default_rng(seed)
    words: dict[str, None] = {}
    while len(words) < WORDS:
        length = 2 + len(words).bit_length() // 2
        letters = generator.integers(len(LETTERS), size=(1000, length))
        words |= dict.fromkeys("".join(LETTERS[letter] for letter in row) for row in letters)
    listed = list(words)[:WORDS]
    cumulated = np.cumsum((np.arange(1, WORDS + 1) + OFFSET) ** -EXPONENT)
    number = 0
    while True:
        number += 1
        draws = generator.random(1 + generator.poisson(MEAN_LENGTH - 1)) * cumulated[-1]
        yield Example([listed[rank] for rank in cumulated.searchsorted(draws)], place=f"sentence {number}")


def file_examples(path: Path) -> Iterator[Example]:
    """The sentences of a file, one a line, split at whitespace.

    Raises:
        InputValueError: there is none.
    """
    examples = read_examples(path, format="text")
    first = next((example for example in examples if example.tokens), None)
    if first is None:
        raise InputValueError(
            f"`--text` must have a sentence a line, its tokens between spaces. Received: {path}, which has no sentence."
        )
    return chain([first], examples)


def long_examples(examples: Iterator[Example], length: int) -> Iterator[Example]:
    """Sentences of so many tokens, made of others."""
    tokens = chain.from_iterable(example.tokens for example in examples)
    number = 0
    while sentence := list(islice(tokens, length)):
        number += 1
        if len(sentence) == length:
            yield Example(sentence, place=f"long sentence {number}")


def take(examples: Iterator[Example], number: int) -> list[Example]:
    """The next sentences.

    Raises:
        InputValueError: the text ends.
    """
    taken = list(islice(examples, number))
    if len(taken) < number:
        raise InputValueError(
            "`--text` must have text for the warm-up (500 sentences by default) and then, for every turn, a batch or "
            "as many as make 200 tokens, none of it twice. Received: a file that ends before. Ask for less (`--turns`, "
            "`--batch-size`, `--warm-up`, `--sentence-length`), or give more text."
        )
    return taken


def take_turn(examples: Iterator[Example], batch_size: int, tokens: int) -> list[Batch]:
    """New batches of at least so many tokens together.

    Raises:
        InputValueError: see `take`.
    """
    batches = [Batch.of(take(examples, batch_size))]
    while sum(batch.tokens for batch in batches) < tokens:
        batches.append(Batch.of(take(examples, batch_size)))
    return batches
