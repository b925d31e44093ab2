"""The words that a biLM predicts in training: `Vocabulary`."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from bridge.checks import check_integer
from bridge.errors import InputTypeError, InputValueError
from bridge.text.characters import BEGIN_SENTENCE_TOKEN, END_SENTENCE_TOKEN
from bridge.text.lines import read_lines
from bridge.whole_file import write_file

UNKNOWN_TOKEN = "<UNK>"
RESERVED_TOKENS = (BEGIN_SENTENCE_TOKEN, END_SENTENCE_TOKEN, UNKNOWN_TOKEN)
UNKNOWN_ID = RESERVED_TOKENS.index(UNKNOWN_TOKEN)
_RESERVED = frozenset(RESERVED_TOKENS)


class CorpusCounts(NamedTuple):
    """How much text a vocabulary was counted from."""

    sentences: int
    """Those that have tokens."""
    tokens: int
    """Words, without sentence boundaries."""
    unknown: int
    """Tokens that are `<UNK>` to the vocabulary."""

    @property
    def positions(self) -> int:
        """What each direction predicts in an epoch: every token, and a boundary for every sentence."""
        return self.tokens + self.sentences


@dataclass(frozen=True, repr=False)
class Vocabulary:
    """Words and their ids, which are the targets of training. A trained model needs none: its inputs are characters.

    Args:
        tokens: the token of each id: `<S>`, `</S>`, `<UNK>`, then the words.

    Raises:
        InputTypeError: a token is not a string.
        InputValueError: the first three are others, a token comes twice, is empty, holds whitespace or is no UTF-8.

    Example:
        >>> Vocabulary(["<S>", "</S>", "<UNK>", "the", "cat"]).ids(["the", "dog"])
        [3, 2]

    Reference:
        bilm-tf, `bilm.data.Vocabulary`.
    """

    tokens: tuple[str, ...]

    def __init__(self, tokens: Sequence[str]) -> None:
        self._set(tokens, "`tokens`")

    def _set(self, tokens: Sequence[str], subject: str) -> None:
        _check_tokens(tokens, subject)
        # A frozen dataclass has no other way.
        object.__setattr__(self, "tokens", tuple(tokens))
        object.__setattr__(self, "_ids", {token: number for number, token in enumerate(tokens)})

    def __len__(self) -> int:
        return len(self.tokens)

    def __repr__(self) -> str:
        return f"<Vocabulary of {len(self):,} tokens>"

    def ids(self, tokens: Sequence[str]) -> list[int]:
        """The id of each token; that of `<UNK>` where the vocabulary does not have it."""
        get = self._ids.get  # type: ignore[attr-defined]
        return [get(token, UNKNOWN_ID) for token in tokens]

    @classmethod
    def count(
        cls, sentences: Iterable[Sequence[str]], *, min_count: int = 1, max_vocab: int | None = None
    ) -> tuple[Vocabulary, CorpusCounts]:
        """The words of a text, the most frequent first, and of equal counts in the order of their code points.

        Memory grows with the number of different words, not with the text.

        Args:
            sentences: the tokens of each; those without tokens are passed over.
            min_count: how often a word must be there.
            max_vocab: the most tokens of the vocabulary, the three that are no words included.

        Raises:
            InputTypeError: an argument is of another type, or a sentence is a string.
            InputValueError: there are no words, or none of `min_count`, or a sentence holds one of the three.
        """
        check_integer("min_count", min_count, minimum=1)
        if max_vocab is not None:
            check_integer("max_vocab", max_vocab, minimum=len(RESERVED_TOKENS) + 1)
        counts: Counter[str] = Counter()
        number_of_sentences = 0
        for number, tokens in enumerate(sentences, start=1):
            if isinstance(tokens, str):
                raise InputTypeError(
                    "`sentences` must hold lists of tokens. "
                    f"Received: {tokens!r:.80}. Split every sentence first, for example with `.split()`."
                )
            check_no_reserved_token(tokens, number)
            counts.update(tokens)
            number_of_sentences += bool(tokens)
        if not counts:
            raise InputValueError(
                "The text (`inputs`) must have a token at least. Received: empty lines only, or none. Give files with "
                "a sentence a line."
            )
        frequent = sorted(
            ((-count, token) for token, count in counts.items() if count >= min_count),
        )
        if not frequent:
            raise InputValueError(
                f"`min_count` must leave a word at least. Received: {min_count}, where the most frequent word comes "
                f"{max(counts.values())} times. Give a smaller number, or more text."
            )
        if max_vocab is not None:
            del frequent[max_vocab - len(RESERVED_TOKENS) :]
        total = counts.total()
        known = -sum(count for count, _ in frequent)
        vocabulary = cls([*RESERVED_TOKENS, *(token for _, token in frequent)])
        return vocabulary, CorpusCounts(number_of_sentences, total, total - known)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes a token a line, as bilm-tf's vocabulary files have them. The file is there whole or not at all."""
        text = "\n".join(self.tokens) + "\n"
        write_file(Path(path), lambda partial: partial.write_text(text, encoding="utf-8", newline="\n"))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Vocabulary:
        """Reads what `save` wrote, or a vocabulary file of bilm-tf that begins with the same three tokens.

        Raises:
            ResourceNotFoundError: there is no such file.
            InputValueError: what it holds is no vocabulary; the message names the line.
        """
        vocabulary = cls.__new__(cls)
        vocabulary._set([line.text for line in read_lines(path, os.fspath(path))], os.fspath(path))
        return vocabulary


def check_no_reserved_token(tokens: Sequence[str], number: int) -> None:
    """Raises InputValueError if a sentence of the text, line `number`, holds what is no word.

    `<S>` and `</S>` would be a boundary to the character CNN, and `<UNK>` would be two things to the softmax.
    """
    if not _RESERVED.isdisjoint(tokens):
        token = next(token for token in tokens if token in _RESERVED)
        raise InputValueError(
            f"The text must not hold {', '.join(RESERVED_TOKENS)} as words: training adds them. "
            f"Received: {token!r} in line {number:,} of the text (of all inputs together). "
            "Remove or rename it there; sentence boundaries must not be written in the text."
        )


def _check_tokens(tokens: Sequence[str], subject: str) -> None:
    """Raises unless the tokens are a vocabulary; `subject` is the argument or the file, entry N is its line N."""
    if isinstance(tokens, str) or not isinstance(tokens, Sequence):
        raise InputTypeError(f"{subject} must be a list of strings. Received: {tokens!r:.80}.")
    if tuple(tokens[: len(RESERVED_TOKENS)]) != RESERVED_TOKENS:
        raise InputValueError(
            f"{subject} must begin with {', '.join(RESERVED_TOKENS)}. Received: {list(tokens[:3])!r:.80}. Put these "
            "three first, in this order, and the words after them."
        )
    seen: set[str] = set()
    for number, token in enumerate(tokens, start=1):
        problem = None
        if not isinstance(token, str):
            raise InputTypeError(f"{subject} must hold strings. Received: {token!r:.80} as entry {number}.")
        if token in seen:
            problem = "must not hold a token twice"
        elif token.split() != [token]:
            problem = "must hold tokens without whitespace, and no empty ones"
        elif not token.isascii() and token.encode("utf-8", "ignore").decode() != token:
            problem = "must hold tokens that UTF-8 can encode"
        if problem:
            raise InputValueError(f"{subject} {problem}. Received: {token!r:.80} as entry {number}. Remove it there.")
        seen.add(token)
