"""The rules for character ids and masks, framework-free: every entrance to the bridge applies the same ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bridge.errors import InputTypeError, InputValueError
from bridge.text.characters import BEGIN_WORD, MAX_CHARACTER_ID, MAX_CHARACTERS_PER_TOKEN

# int8 and uint8 cannot hold 261.
CHARACTER_ID_DTYPES = ("int16", "int32", "int64", "uint16", "uint32", "uint64")


def check_character_ids_form(dtype: str, shape: Sequence[int | None], passages: bool = False) -> None:
    """Checks what is known before any value is: dtype and shape (None is an unknown dimension).

    Args:
        dtype: its name.
        shape: `(batch, timesteps, 50)`.
        passages: whether it may be `(batch, passages, timesteps, 50)` too.

    Raises:
        InputTypeError: the dtype is not an integer of at least 16 bits.
        InputValueError: the shape is not `(batch, timesteps, 50)`; a rank-2 integer input is told apart as word
            ids.
    """
    wanted = f"`char_ids` must be integers of shape (batch, timesteps, {MAX_CHARACTERS_PER_TOKEN})"
    shown = f"({', '.join('None' if size is None else str(size) for size in shape)})"
    if dtype in ("int8", "uint8"):
        raise InputTypeError(
            f"{wanted}, of at least 16 bits: ids go up to {MAX_CHARACTER_ID}. Received: dtype {dtype}, which can't "
            "hold them; ids above its range are lost already. Make the ids as int32."
        )
    if dtype not in CHARACTER_ID_DTYPES:
        raise InputTypeError(
            f"{wanted}. Received: dtype {dtype} of shape {shown}. Make the ids with `batch_to_ids`, and declare "
            'them to a model as integers: `keras.Input((None, 50), dtype="int32")`.'
        )
    if len(shape) == 2 and shape[-1] == MAX_CHARACTERS_PER_TOKEN:
        raise InputValueError(
            f"{wanted}. Received: shape {shown}. One sentence of character ids is a batch of one: `char_ids[None]`. "
            "Word ids go through `VocabularyCharacterIds(vocabulary)`."
        )
    if len(shape) == 2:
        raise InputValueError(
            f"{wanted}. Received: shape {shown}, which looks like word ids. ELMo reads the characters of words: turn "
            "word ids into character ids with `VocabularyCharacterIds(vocabulary)`, or give string tokens, through "
            "`batch_to_ids` or `CharacterIds`."
        )
    if len(shape) != 3 and not (passages and len(shape) == 4):
        raise InputValueError(
            f"{wanted}. Received: shape {shown} of rank {len(shape)}. A single sentence is a batch of one: "
            "`batch_to_ids([tokens])`."
        )
    if shape[-1] not in (None, MAX_CHARACTERS_PER_TOKEN):
        raise InputValueError(
            f"{wanted}. Received: shape {shown}: {shape[-1]} characters a token. Make the ids with `batch_to_ids`, "
            f"which pads and cuts every token to {MAX_CHARACTERS_PER_TOKEN}."
        )


def check_character_ids(char_ids: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    """Checks ids and mask by value, and returns the number of tokens of every row.

    Args:
        char_ids: `(batch, timesteps, 50)` that `check_character_ids_form` accepts.
        mask: `(batch, timesteps)`, bool or 0/1, true where a token is. It may cut the end of a row.

    Returns:
        Integers `(batch,)`.

    Raises:
        InputValueError: an id is out of range, no token begins as a token does, there is padding before or between
            tokens, or the mask claims a token where there is none.
        InputTypeError: the mask is neither bool nor numbers.
    """
    if char_ids.size and (char_ids.min() < 0 or char_ids.max() > MAX_CHARACTER_ID):
        row, timestep, position = np.argwhere((char_ids < 0) | (char_ids > MAX_CHARACTER_ID))[0]
        raise InputValueError(
            f"`char_ids` must be from 0 to {MAX_CHARACTER_ID}. Received: {char_ids[row, timestep, position]} in row "
            f"{row} at timestep {timestep}. If these are word ids, give the words' characters instead: "
            "`batch_to_ids(sentences)`."
        )
    tokens = (char_ids != 0).any(axis=-1)
    begins = char_ids[..., 0][tokens]
    # One that does is enough: who changes characters on purpose may change some of these.
    if begins.size and not (begins == BEGIN_WORD).any():
        raise InputValueError(
            f"`char_ids` must be ELMo's: a token begins with the id {BEGIN_WORD}. Received: no token that does, the "
            f"first one begins with {begins[0]}. Word ids, ids of another character table, ids without AllenNLP's "
            "shift by 1, and ids that went through int8 or bfloat16 look like this. Make them with "
            "`batch_to_ids(sentences)`."
        )
    lengths = _prefix_lengths(
        tokens,
        '`char_ids` must have padding (zeros; `""` in string tokens) only after the tokens of a row: AllenNLP shifts '
        "anything else silently. Received: row {row} of the batch with padding at timestep {timestep}, before a "
        "token. Pad at the end, with `padding='post'` in `pad_sequences`, and take empty strings out of sentences.",
    )
    if mask is None:
        return lengths
    if mask.dtype.kind not in "biuf":
        raise InputTypeError(f"`mask` must be bool or 0/1. Received: dtype {mask.dtype}.")
    if mask.shape != tokens.shape:
        raise InputValueError(
            f"`mask` must have shape (batch, timesteps) = {tokens.shape}. Received: shape {mask.shape}."
        )
    if mask.dtype != bool and not ((mask == 0) | (mask == 1)).all():
        raise InputValueError(
            f"`mask` must be bool or 0/1. Received: dtype {mask.dtype} with other values. A mask of word ids is "
            "`ids != 0`."
        )
    mask = mask.astype(bool)
    if (mask & ~tokens).any():
        row, timestep = np.argwhere(mask & ~tokens)[0]
        raise InputValueError(
            f"`mask` must not claim a token where `char_ids` has none. Received: true in row {row} at timestep "
            f"{timestep}, whose ids are all 0. Use the mask that belongs to these ids, or none."
        )
    return _prefix_lengths(
        mask,
        "`mask` may only cut the end of a row. Received: row {row} masked at timestep {timestep}, before a token. "
        "Take the tokens out of the sentence instead.",
    )


def _prefix_lengths(tokens: np.ndarray, message: str) -> np.ndarray:
    """Number of tokens of every row, which must come first in it."""
    lengths = tokens.sum(axis=1)
    gaps = ~tokens & (np.arange(tokens.shape[1]) < lengths[:, None])
    if gaps.any():
        row, timestep = np.argwhere(gaps)[0]
        raise InputValueError(message.format(row=row, timestep=timestep))
    return lengths
