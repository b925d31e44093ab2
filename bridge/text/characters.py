"""Strings to character ids: ELMo's character table, and `batch_to_ids` in NumPy.

A token is its first 48 UTF-8 bytes, as ids `byte + 1`, between a begin-of-word and an end-of-word character and
padded inside the token; the id 0 means "no token". The table is that of the published models (bilm-tf's
`UnicodeCharsVocabulary`, AllenNLP's `ELMoCharacterMapper`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any

import numpy as np

from bridge.checks import check_integer
from bridge.errors import InputTypeError, InputValueError

# AllenNLP hard-codes this: in its input and in its sentence boundaries.
MAX_CHARACTERS_PER_TOKEN = 50
MAX_BYTES_PER_TOKEN = MAX_CHARACTERS_PER_TOKEN - 2

BEGIN_SENTENCE, END_SENTENCE, BEGIN_WORD, END_WORD, PADDING = 257, 258, 259, 260, 261
MAX_CHARACTER_ID = PADDING
BEGIN_SENTENCE_TOKEN, END_SENTENCE_TOKEN = "<S>", "</S>"


def one_character_tokens(tokens_to_add: Mapping[str, int] | None = None) -> dict[str, int]:
    """Tokens that stand for a single character id, by token: the sentence boundaries and `tokens_to_add`.

    Args:
        tokens_to_add: token -> character 0 to 260 (before the shift by one that masking needs), as AllenNLP's
            `ELMoTokenCharactersIndexer` takes it.

    Raises:
        InputTypeError, InputValueError: `tokens_to_add` is not such a mapping.
    """
    ids = {BEGIN_SENTENCE_TOKEN: BEGIN_SENTENCE, END_SENTENCE_TOKEN: END_SENTENCE}
    if tokens_to_add is None:
        return ids
    if not isinstance(tokens_to_add, Mapping):
        raise InputTypeError(
            "`tokens_to_add` must map tokens to characters, such as {'<unk>': 1}. "
            f"Received: {tokens_to_add!r:.80} of type {type(tokens_to_add).__name__}."
        )
    for token, character in tokens_to_add.items():
        if not isinstance(token, str) or isinstance(character, bool) or not isinstance(character, int | np.integer):
            raise InputTypeError(f"`tokens_to_add` must map strings to integers. Received: {token!r}: {character!r}.")
        if not 0 <= character < MAX_CHARACTER_ID:
            raise InputValueError(
                f"`tokens_to_add` must use characters from 0 to {MAX_CHARACTER_ID - 1}; 1 to 32 are free. "
                f"Received: {token!r}: {character}."
            )
        ids[token] = int(character) + 1
    return ids


def token_lists(sentences: Any) -> list[list[str]]:
    """Tokenised sentences as lists of lists, from whatever can be iterated once. Tokens are not looked at.

    Raises:
        InputTypeError: there are no sentences to iterate over, or a sentence is a string or no sequence.
    """
    if _is_ordered(sentences):
        sentences = list(sentences)
        if all(map(_is_ordered, sentences)):
            return [list(sentence) for sentence in sentences]
    raise InputTypeError(
        "`sentences` must be a list of sentences, each a list of tokens. "
        f"Received: {sentences!r:.80}. Split every sentence into tokens first, for example with `.split()`."
    )


def _is_ordered(values: Any) -> bool:
    return (
        isinstance(values, Iterable)
        and not isinstance(values, str | bytes | Set | Mapping)
        and getattr(values, "ndim", 1) > 0  # an array without dimensions calls itself iterable
    )


def batch_to_ids(
    sentences: Sequence[Sequence[str]],
    max_sequence_length: int | None = None,
    tokens_to_add: Mapping[str, int] | None = None,
) -> np.ndarray:
    """Turns tokenised sentences into ELMo's character ids. Equal to AllenNLP's `batch_to_ids`.

    Args:
        sentences: a list of sentences, each a list of tokens. An empty string is a token here, as in AllenNLP.
        max_sequence_length: number of timesteps to pad and truncate to; the longest sentence's by default.
        tokens_to_add: special tokens and their characters from 0 to 260, such as `{"<unk>": 1}`.

    Returns:
        int32 `(batch, timesteps, 50)`; a row of zeros is "no token". `[]` gives `(0, 0, 50)`, `[[]]` gives
        `(1, 0, 50)`.

    Raises:
        InputTypeError: a sentence is a string (split it first) or has no order, or a token is not a string.
        InputValueError: `max_sequence_length` is negative, or a character of `tokens_to_add` is out of range.

    Example:
        >>> batch_to_ids([["The", "cat", "sat"], ["Hello"]]).shape
        (2, 3, 50)
    """
    if max_sequence_length is not None:
        check_integer("max_sequence_length", max_sequence_length, minimum=0, maximum=2**31 - 1)
    special_ids = one_character_tokens(tokens_to_add)

    rows = [sentence[:max_sequence_length] for sentence in token_lists(sentences)]
    lengths = np.array([len(row) for row in rows], dtype=np.intp)
    timesteps = int(lengths.max(initial=0)) if max_sequence_length is None else max_sequence_length
    ids = np.zeros((len(rows), timesteps, MAX_CHARACTERS_PER_TOKEN), dtype=np.int32)
    # Without rows the ids take no memory, however many timesteps they have: nor may this.
    places = np.flatnonzero(np.arange(timesteps if rows else 0) < lengths[:, None])
    _write_tokens([token for row in rows for token in row], special_ids, ids.reshape(-1, ids.shape[2]), places)
    return ids


def _write_tokens(tokens: list[str], special_ids: Mapping[str, int], ids: np.ndarray, places: np.ndarray) -> None:
    """Writes the ids of `tokens[i]` into row `places[i]` of `ids` `(rows, 50)`."""
    encoded = _encode(tokens)
    lengths = np.fromiter(map(len, encoded), dtype=np.intp, count=len(encoded))
    if lengths.max(initial=0) > MAX_BYTES_PER_TOKEN:
        encoded = [word[:MAX_BYTES_PER_TOKEN] for word in encoded]
        lengths = np.minimum(lengths, MAX_BYTES_PER_TOKEN)
    characters = np.frombuffer(b"".join(encoded), dtype=np.uint8).astype(np.int32)

    ids[places] = PADDING
    ids[places, 0] = BEGIN_WORD
    # Where each character goes in the flat array: its token's row, its place in the token, and one for BEGIN_WORD.
    first_characters = np.cumsum(lengths) - lengths
    offsets = places * MAX_CHARACTERS_PER_TOKEN + 1 - first_characters
    ids.reshape(-1)[np.arange(len(characters)) + np.repeat(offsets, lengths)] = characters + 1
    ids[places, lengths + 1] = END_WORD
    if not special_ids.keys().isdisjoint(tokens):
        for token, place in zip(tokens, places, strict=True):
            if token in special_ids:
                ids[place] = PADDING
                ids[place, :3] = BEGIN_WORD, special_ids[token], END_WORD


def _encode(tokens: list[str]) -> list[bytes]:
    """UTF-8, without what it cannot encode (lone surrogates), as AllenNLP has it."""
    try:
        return [token.encode() for token in tokens]
    except UnicodeEncodeError:
        return [token.encode("utf-8", "ignore") for token in tokens]
    except AttributeError:
        wrong = next(token for token in tokens if not isinstance(token, str))
        raise InputTypeError(
            f"`sentences` must hold string tokens. Received: the token {wrong!r:.80} of type "
            f"{type(wrong).__name__}. ELMo reads characters: give the words themselves as str, not word ids or bytes."
        ) from None
