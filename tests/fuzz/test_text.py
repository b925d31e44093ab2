"""Fuzzing of text: `batch_to_ids` and the readers."""

import io
import unicodedata
from typing import Any

import numpy as np
import pytest
from fuzz.fuzzing import SLOW, Entry, fuzz, parametrized
from fuzz.values import TOKENS, anything, batches, flags, integers, limits, scalars, tokens
from hypothesis import strategies as st

from bridge.encoder.elmo_import import import_elmo
from bridge.errors import BridgeError
from bridge.text.characters import batch_to_ids
from bridge.text.readers import format_of, read_examples
from bridge.text.writers import PredictionWriter

FORMATS = ["text", "tsv", "jsonl", "conll"]


def check_ids(ids: np.ndarray, sentences: Any, max_sequence_length: Any = None, tokens_to_add: Any = None) -> None:
    assert ids.dtype == np.int32
    assert ids.ndim == 3
    assert ids.shape[2] == 50
    assert max_sequence_length is None or ids.shape[1] == max_sequence_length
    assert ids.size == 0 or (ids.min() >= 0 and ids.max() <= 261)
    rows = sentences if isinstance(sentences, list | tuple) else []
    if rows and all(isinstance(row, list) for row in rows) and any(rows) and max_sequence_length is None:
        assert ids.shape[:2] == (len(rows), max(map(len, rows)))
        if tokens_to_add is None:
            np.testing.assert_array_equal(ids, import_elmo().batch_to_ids(rows).numpy())


def check_examples(examples: list[Any], data: bytes, task: Any, allow_empty: Any = False, **_: Any) -> None:
    for words, target, place in examples:
        assert all(isinstance(word, str) and word for word in words)
        "".join(words).encode()
        assert words or allow_empty
        assert ", line " in place
        if task == "classify" and words:
            assert isinstance(target, str)
        if task == "tag" and words:
            assert len(target) == len(words)


def write(format: Any, task: Any, sentence: list[str], target: Any) -> str:
    """The lines of a prediction: a label, or a tag for every token."""
    if task == "tag":
        target = [target] * len(sentence)
    return PredictionWriter(format, task).lines(sentence, target, 0.5)


def check_text(text: str) -> None:
    assert text == "" or text.endswith("\n")


def read(data: bytes, **arguments: Any) -> list[Any]:
    return list(read_examples(io.BytesIO(data), **arguments))


lines = st.sampled_from([
    b"sentence\tlabel", b"sentence\ttags", b"the cat\tgood", b"the cat\tA B", b'{"sentence": "a b", "label": "x"}',
    b'{"tokens": ["a"], "tags": ["O"]}', b'{"tokens": [1], "label": 2}', b'{"sentence": NaN}', b'{"tokens": "\\ud800"}',
    b"[" * 3000, b'{"a":' * 3000, b"cat\tO", b"cat NN O", b"-DOCSTART- -X-", b"", b" ", b"\t", b"\t\t", b"\xef\xbb\xbf",
    b"\xff\xfe", b"\x00", b"\r", b"1e999", b"9" * 5000, "\u2028\u0085é".encode(), b"null", b'"text"', b'{"label": "x"}',
    b'{"sentence": {"a": []}, "label": [], "tags": 3}', b'{"sentence": "a", "sentence": "b", "label": ""}',
]) | st.binary(max_size=12) | tokens.map(lambda token: token.encode("utf-8", "surrogatepass"))  # fmt: skip
columns = st.none() | st.sampled_from(
    ["0", "1", "-1", "-0", "99", "9" * 30, "x", "", "sentence", "label", "\ud800", "\u0661", "9" * 5000, 0]
)

TABLE = [
    Entry(
        "batch_to_ids of anything",
        st.fixed_dictionaries(
            {"sentences": anything}, optional={"max_sequence_length": limits, "tokens_to_add": scalars}
        ),
        batch_to_ids,
        check_ids,
        # What nobody's memory has room for.
        documented=(BridgeError, MemoryError),
    ),
    Entry(
        "batch_to_ids of text",
        st.fixed_dictionaries(
            {"sentences": batches},
            optional={
                "max_sequence_length": st.integers(-1, 5),
                "tokens_to_add": st.dictionaries(tokens, integers | st.integers(0, 262), max_size=3),
            },
        ),
        batch_to_ids,
        check_ids,
    ),
    Entry(
        "read_examples",
        st.fixed_dictionaries(
            {
                "data": st.lists(lines, max_size=6).map(b"\n".join),
                "format": st.sampled_from(FORMATS) | st.sampled_from([None, "csv", 1, b"tsv"]),
                "task": st.sampled_from([None, "classify", "tag", "parse", 0]),
            },
            optional={"text_column": columns, "target_column": columns, "allow_empty": flags},
        ),
        read,
        check_examples,
        examples=80,
    ),
    Entry(
        "format_of",
        st.fixed_dictionaries(
            {"path": tokens | st.sampled_from(["a.TSV", "b.jsonl.gz", ".conll", "a.txt/", "a.gz.gz"])}
        ),
        format_of,
        lambda result, path: None,
    ),
    Entry(
        "PredictionWriter",
        st.fixed_dictionaries(
            {
                "format": st.sampled_from(FORMATS),
                "task": st.sampled_from(["classify", "tag"]),
                "sentence": st.lists(tokens, max_size=3),
                "target": tokens,
            }
        ),
        write,
        lambda text, **_: check_text(text),
    ),
]


@parametrized(TABLE)
def test_text(entry: Entry) -> None:
    fuzz(entry)


@pytest.mark.slow
@parametrized(TABLE)
def test_text_for_long(entry: Entry) -> None:
    counts = fuzz(entry, SLOW)
    assert counts["accepted"]
    assert counts["refused"]


def test_values_are_what_they_say() -> None:
    """Composed and decomposed forms are different tokens: nothing normalises them."""
    forms = [token for token in TOKENS if unicodedata.normalize("NFC", token) != token]
    assert forms
    assert all((batch_to_ids([[form]]) != batch_to_ids([[unicodedata.normalize("NFC", form)]])).any() for form in forms)
