"""`batch_to_ids` against AllenNLP's own, and its errors."""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import bridge
from bridge.encoder.elmo_import import import_elmo
from bridge.errors import InputTypeError, InputValueError
from bridge.text.characters import batch_to_ids

# A token, and the ids between its begin-of-word and end-of-word characters.
TOKENS: dict[str, list[int]] = {
    "cat": [100, 98, 117],
    "é": [0xC3 + 1, 0xA9 + 1],
    "": [],
    "\0": [1],
    "a\0": [98, 1],
    "\ud800": [],
    "a\udfffb": [98, 99],
    "<S>": [257],
    "</S>": [258],
    "<s>": [61, 116, 63],
    "a" * 48: [98] * 48,
    "a" * 49: [98] * 48,
    "a" * 47 + "é": [98] * 47 + [0xC3 + 1],
    "a" * 46 + "😀": [98] * 46 + [0xF0 + 1, 0x9F + 1],
}

# Surrogates included, which `st.text()` leaves out.
characters = st.characters(exclude_categories=())
tokens = st.sampled_from(list(TOKENS)) | st.text(characters, max_size=5) | st.text(characters, min_size=10, max_size=60)
# AllenNLP has no result of rank 3 for batches without a single token.
batches = st.lists(st.lists(tokens, max_size=4), min_size=1, max_size=4).filter(any)
special_tokens = st.dictionaries(tokens, st.integers(0, 260), max_size=3)


def allennlp_ids(sentences: Sequence[Sequence[str]], tokens_to_add: Mapping[str, int] | None = None) -> np.ndarray:
    """The same by AllenNLP's character mapper, which knows `tokens_to_add`."""
    mapper = import_elmo().ELMoCharacterMapper(tokens_to_add)
    ids = np.zeros((len(sentences), max(map(len, sentences)), 50), dtype=np.int64)
    for row, sentence in enumerate(sentences):
        for timestep, token in enumerate(sentence):
            ids[row, timestep] = mapper.convert_word_to_char_ids(token)
    return ids


@pytest.mark.parametrize("token", TOKENS)
def test_the_character_table(token: str) -> None:
    word = [259, *TOKENS[token], 260]
    assert batch_to_ids([[token]])[0, 0].tolist() == word + [261] * (50 - len(word))


@given(batches)
def test_equals_allennlp(sentences: list[list[str]]) -> None:
    ids = batch_to_ids(sentences)
    assert ids.dtype == np.int32
    np.testing.assert_array_equal(ids, import_elmo().batch_to_ids(sentences).numpy())


@given(batches, special_tokens)
def test_tokens_to_add_equals_allennlp(sentences: list[list[str]], tokens_to_add: dict[str, int]) -> None:
    sentences = [*sentences, list(tokens_to_add)]
    np.testing.assert_array_equal(batch_to_ids(sentences, None, tokens_to_add), allennlp_ids(sentences, tokens_to_add))


@given(batches, st.integers(0, 6))
def test_max_sequence_length_pads_and_truncates(sentences: list[list[str]], length: int) -> None:
    ids = batch_to_ids(sentences, max_sequence_length=length)
    unlimited = batch_to_ids(sentences)
    padding = ((0, 0), (0, max(0, length - unlimited.shape[1])), (0, 0))
    assert ids.shape == (len(sentences), length, 50)
    np.testing.assert_array_equal(ids, np.pad(unlimited, padding)[:, :length])


@pytest.mark.parametrize(
    ("sentences", "shape"),
    [([], (0, 0, 50)), ([[]], (1, 0, 50)), ([[], []], (2, 0, 50)), ([["a"], []], (2, 1, 50))],
)
def test_nothing_in_gives_nothing_out(sentences: list[list[str]], shape: tuple[int, ...]) -> None:
    ids = batch_to_ids(sentences)
    assert (ids.shape, ids.dtype) == (shape, np.int32)
    assert not ids[-1:].any()


@pytest.mark.parametrize(
    "sentences",
    [
        (("a", "b"), ("c",)),
        (iter(sentence) for sentence in [["a", "b"], ["c"]]),
        np.array([np.array(["a", "b"]), ["c"]], dtype=object),
    ],
    ids=["tuples", "iterators", "arrays"],
)
def test_whatever_can_be_iterated(sentences: Any) -> None:
    np.testing.assert_array_equal(batch_to_ids(sentences), batch_to_ids([["a", "b"], ["c"]]))


def test_the_callers_lists_are_left_alone() -> None:
    sentences, tokens_to_add = [["a", "b"], []], {"a": 1}
    batch_to_ids(sentences, 1, tokens_to_add)
    assert (sentences, tokens_to_add) == ([["a", "b"], []], {"a": 1})


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        # A sentence is not split for you: a string would be read as a list of one-letter tokens.
        (("The cat sat",), InputTypeError, r"`sentences` must be a list of sentences.*'The cat sat'.*\.split\(\)"),
        ((b"The cat",), InputTypeError, r"`sentences` must be a list of sentences.*b'The cat'"),
        ((["The cat", "Hello"],), InputTypeError, r"list of sentences.*\['The cat', 'Hello'\].*\.split\(\)"),
        ((iter(["The cat"]),), InputTypeError, r"list of sentences.*\['The cat'\]"),
        (([["a"], "b"],), InputTypeError, r"list of sentences.*\[\['a'\], 'b'\]"),
        ((None,), InputTypeError, "`sentences` must be a list of sentences.*None"),
        (([["a"], None],), InputTypeError, r"`sentences` must be a list of sentences.*\[\['a'\], None\]"),
        (([{"a", "b"}],), InputTypeError, "`sentences` must be a list of sentences"),  # a set has no order
        (([{"a": 1}],), InputTypeError, r"`sentences` must be a list of sentences.*\[\{'a': 1\}\]"),
        (([np.array("a")],), InputTypeError, "`sentences` must be a list of sentences"),
        (([3, 4],), InputTypeError, r"`sentences` must be a list of sentences.*\[3, 4\]"),
        (([["a", 3]],), InputTypeError, "`sentences` must hold string tokens.*token 3 of type int.*not word ids"),
        (([["a", b"b"]],), InputTypeError, "`sentences` must hold string tokens.*token b'b' of type bytes.*as str"),
        (([[["a"]]],), InputTypeError, r"`sentences` must hold string tokens.*token \['a'\] of type list"),
        (([["a", None]],), InputTypeError, "`sentences` must hold string tokens.*token None of type NoneType"),
        (([["a"]], -1), InputValueError, "`max_sequence_length` must be at least 0. Received: -1"),
        (([["a"]], 2.0), InputTypeError, "`max_sequence_length` must be an integer. Received: 2.0"),
        (([["a"]], True), InputTypeError, "`max_sequence_length` must be an integer. Received: True"),
        (([["a"]], None, ["a"]), InputTypeError, r"`tokens_to_add` must map tokens.*\['a'\] of type list"),
        (([["a"]], None, {"a": "1"}), InputTypeError, "`tokens_to_add` must map strings to integers.*'a': '1'"),
        (([["a"]], None, {"a": True}), InputTypeError, "`tokens_to_add` must map strings to integers.*'a': True"),
        (([["a"]], None, {1: 1}), InputTypeError, "`tokens_to_add` must map strings to integers.*1: 1"),
        (([["a"]], None, {"a": 261}), InputValueError, "`tokens_to_add` must use characters from 0 to 260.*'a': 261"),
        (([["a"]], None, {"a": -1}), InputValueError, "`tokens_to_add` must use characters from 0 to 260.*'a': -1"),
    ],
)
def test_errors(arguments: tuple[Any, ...], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        batch_to_ids(*arguments)


def test_text_needs_nothing_but_numpy() -> None:
    code = "import sys, bridge.text.character_checks; print({'torch', 'tensorflow', 'pydantic'} & set(sys.modules))"
    root = Path(bridge.__file__).parents[1]
    result = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert result.stdout == "set()\n"
