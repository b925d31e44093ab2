"""Every rule for character ids and masks."""

from typing import Any

import numpy as np
import pytest

from bridge.errors import InputTypeError, InputValueError
from bridge.text.character_checks import CHARACTER_ID_DTYPES, check_character_ids, check_character_ids_form
from bridge.text.characters import batch_to_ids

Shape = tuple[int | None, ...]

# Two sentences, of 1 and of 3 tokens.
IDS = batch_to_ids([["a"], ["b", "c", "d"]])


@pytest.mark.parametrize("dtype", ["int16", "int32", "int64", "uint16", "uint32", "uint64"])
@pytest.mark.parametrize("shape", [(2, 3, 50), (0, 0, 50), (None, None, 50), (2, 3, None), (None, None, None)])
def test_accepted_forms(dtype: str, shape: Shape) -> None:
    check_character_ids_form(dtype, shape)
    assert dtype in CHARACTER_ID_DTYPES


@pytest.mark.parametrize(
    ("dtype", "shape", "error", "words"),
    [
        ("int8", (2, 3, 50), InputTypeError, "at least 16 bits.*dtype int8, which can't hold them.*int32"),
        ("uint8", (2, 3, 50), InputTypeError, "at least 16 bits.*dtype uint8"),
        ("float32", (2, 3, 50), InputTypeError, r"dtype float32 of shape \(2, 3, 50\).*keras.Input"),
        ("bfloat16", (2, 3, 50), InputTypeError, "dtype bfloat16"),
        ("bool", (2, 3, 50), InputTypeError, "dtype bool"),
        ("string", (None, None), InputTypeError, r"dtype string of shape \(None, None\)"),
        ("complex64", (2, 3, 50), InputTypeError, "dtype complex64"),
        (
            "int32",
            (2, 3),
            InputValueError,
            r"shape \(2, 3\), which looks like word ids.*`VocabularyCharacterIds\(vocab",
        ),
        ("int32", (None, None), InputValueError, r"shape \(None, None\), which looks like word ids"),
        ("int32", (), InputValueError, r"shape \(\) of rank 0"),
        ("int32", (50,), InputValueError, r"shape \(50\) of rank 1.*batch of one"),
        ("int32", (1, 2, 3, 50), InputValueError, r"shape \(1, 2, 3, 50\) of rank 4"),
        ("int32", (2, 3, 49), InputValueError, r"shape \(2, 3, 49\): 49 characters a token"),
        ("int32", (2, 3, 0), InputValueError, "0 characters a token"),
        ("int32", (None, None, 51), InputValueError, "51 characters a token.*`batch_to_ids`"),
    ],
)
def test_refused_forms(dtype: str, shape: Shape, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=r"`char_ids` must be integers of shape \(batch, timesteps, 50\).*" + words):
        check_character_ids_form(dtype, shape)


def with_id(value: int, *, dtype: str = "int32") -> np.ndarray:
    ids = IDS.astype(dtype)
    ids[1, 2, 7] = value
    return ids


@pytest.mark.parametrize(
    ("char_ids", "words"),
    [
        (with_id(262), "from 0 to 261. Received: 262 in row 1 at timestep 2.*word ids"),
        (with_id(-1), "from 0 to 261. Received: -1 in row 1 at timestep 2"),
        (with_id(2**16 - 1, dtype="uint16"), "from 0 to 261. Received: 65535"),
        (with_id(2**64 - 1, dtype="uint64"), "from 0 to 261. Received: 18446744073709551615"),
        (IDS[:, ::-1], "padding .zeros; .* only after the tokens.*row 0 of the batch with padding at timestep 0"),
        (
            np.concatenate([IDS, IDS], axis=1),
            "only after the tokens.*row 0 of the batch with padding at timestep 1.*padding='post'",
        ),
    ],
)
def test_refused_ids(char_ids: np.ndarray, words: str) -> None:
    with pytest.raises(InputValueError, match="`char_ids` must .*" + words):
        check_character_ids(char_ids)


@pytest.mark.parametrize("dtype", CHARACTER_ID_DTYPES)
def test_lengths(dtype: str) -> None:
    assert check_character_ids(IDS.astype(dtype)).tolist() == [1, 3]


@pytest.mark.parametrize("shape", [(0, 0, 50), (0, 3, 50), (3, 0, 50), (3, 2, 50)])
def test_lengths_of_nothing(shape: tuple[int, ...]) -> None:
    assert check_character_ids(np.zeros(shape, dtype=int)).tolist() == [0] * shape[0]
    assert check_character_ids(np.zeros(shape, dtype=int), np.zeros(shape[:2], dtype=bool)).tolist() == [0] * shape[0]


def test_a_single_nonzero_character_makes_a_token() -> None:
    ids = np.zeros((2, 2, 50), dtype=int)
    ids[0, 0, 49] = 1
    ids[1, :, 0] = 259
    assert check_character_ids(ids).tolist() == [1, 2]


@pytest.mark.parametrize("first", [0, 1, 256, 258, 260, 261])
def test_ids_that_are_not_elmos(first: int) -> None:
    """One token that begins as it should is enough: some may have been changed on purpose."""
    ids = IDS.copy()
    ids[..., 0][ids[..., 0] == 259] = first
    with pytest.raises(InputValueError, match=f"begins with the id 259. Received: .* begins with {first}. Word ids"):
        check_character_ids(ids)
    ids[1, 0, 0] = 259
    assert check_character_ids(ids).tolist() == [1, 3]


@pytest.mark.parametrize("dtype", ["bool", "int8", "int64", "uint8", "float16", "float32"])
@pytest.mark.parametrize(
    ("mask", "lengths"),
    [
        ([[1, 0, 0], [1, 1, 1]], [1, 3]),
        ([[1, 0, 0], [1, 1, 0]], [1, 2]),
        ([[0, 0, 0], [1, 0, 0]], [0, 1]),
        ([[0, 0, 0], [0, 0, 0]], [0, 0]),
    ],
)
def test_a_mask_cuts_the_end_of_a_row(mask: list[list[int]], lengths: list[int], dtype: str) -> None:
    assert check_character_ids(IDS, np.array(mask, dtype=dtype)).tolist() == lengths


@pytest.mark.parametrize(
    ("mask", "error", "words"),
    [
        ([[1, 1, 0], [1, 1, 1]], InputValueError, "must not claim a token.*true in row 0 at timestep 1"),
        ([[1, 0, 0], [1, 0, 1]], InputValueError, "may only cut the end of a row.*row 1 masked at timestep 1"),
        ([[1, 0, 0], [0, 1, 1]], InputValueError, "may only cut the end of a row.*row 1 masked at timestep 0"),
        ([[5, 0, 0], [7, 9, 4]], InputValueError, "must be bool or 0/1.*dtype int64 with other values.*`ids != 0`"),
        ([[1, 0, 0], [1, 1, -1]], InputValueError, "must be bool or 0/1"),
        ([[1, 0, 0], [1, 0.5, 0]], InputValueError, "must be bool or 0/1.*dtype float64"),
        ([[1, 0, 0], [1, np.nan, 0]], InputValueError, "must be bool or 0/1.*dtype float64"),
        ([["1", "", ""], ["1", "1", "1"]], InputTypeError, "must be bool or 0/1. Received: dtype <U1"),
        ([[1j, 0, 0], [1, 1, 1]], InputTypeError, "must be bool or 0/1. Received: dtype complex128"),
        ([[None, 0, 0], [1, 1, 1]], InputTypeError, "must be bool or 0/1. Received: dtype object"),
        ([1, 0, 0], InputValueError, r"must have shape \(batch, timesteps\) = \(2, 3\). Received: shape \(3,\)"),
        ([[1], [1]], InputValueError, r"must have shape \(batch, timesteps\) = \(2, 3\). Received: shape \(2, 1\)"),
        ([[[1]] * 3] * 2, InputValueError, r"must have shape .*Received: shape \(2, 3, 1\)"),
        ([[1, 0, 0, 0], [1, 1, 1, 0]], InputValueError, r"must have shape .*Received: shape \(2, 4\)"),
    ],
)
def test_refused_masks(mask: list[Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match="`mask` " + words):
        check_character_ids(IDS, np.array(mask))


def test_arguments_are_left_alone() -> None:
    ids, mask = IDS.copy(), np.array([[1, 0, 0], [1, 1, 0]])
    ids.flags.writeable = mask.flags.writeable = False
    check_character_ids(ids, mask)
