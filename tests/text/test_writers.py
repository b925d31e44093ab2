"""What is predicted is written so that the readers read it."""

import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import InputValueError
from bridge.text.readers import read_examples
from bridge.text.writers import PredictionWriter

words = st.text(st.characters(exclude_categories=["Cs", "Zs", "Zl", "Zp", "Cc"]), min_size=1).filter(
    lambda token: token.split() == [token] and token != "-DOCSTART-" and "\ufeff" not in token
)
sentences = st.lists(st.lists(words, min_size=1, max_size=4), max_size=4)


@given(sentences, st.sampled_from(["tsv", "jsonl", "conll"]))
def test_tags_are_read_as_written(rows: list[list[str]], format: Any) -> None:
    writer = PredictionWriter(format, "tag")
    tags = [["B-X"] * len(row) for row in rows]
    text = writer.header() + "".join(writer.lines(row, targets) for row, targets in zip(rows, tags, strict=True))
    examples = list(read_examples(io.BytesIO(text.encode()), task="tag", format=format))
    assert [(example.tokens, example.target) for example in examples] == list(zip(rows, tags, strict=True))


@given(sentences, st.sampled_from(["tsv", "jsonl"]))
def test_labels_are_read_as_written(rows: list[list[str]], format: Any) -> None:
    writer = PredictionWriter(format, "classify")
    text = writer.header() + "".join(writer.lines(row, "praise", 0.75) for row in rows)
    examples = list(read_examples(io.BytesIO(text.encode()), task="classify", format=format))
    assert [(example.tokens, example.target) for example in examples] == [(row, "praise") for row in rows]


def test_text() -> None:
    assert PredictionWriter("text", "classify").lines(["not", "bad"], "praise", 0.98765) == "praise\t0.9877\tnot bad\n"
    assert PredictionWriter("text", "tag").lines(["a", "b"], ["O", "B-X"]) == "O B-X\n"
    assert PredictionWriter("text", "tag").lines([], None) == "\n"
    assert PredictionWriter("text", "tag").header() == ""


def test_json_has_the_probability() -> None:
    line = PredictionWriter("jsonl", "classify").lines(["not bad"], "praise", 0.5)
    assert json.loads(line) == {"tokens": ["not bad"], "label": "praise", "probability": 0.5}


def test_what_a_format_cannot_hold() -> None:
    with pytest.raises(InputValueError, match="CoNLL has no place for labels"):
        PredictionWriter("conll", "classify")
    for format in ("tsv", "text", "conll"):
        writer = PredictionWriter(format, "tag")
        with pytest.raises(InputValueError, match=r"whitespace.*'New York'.*\"jsonl\""):
            writer.lines(["New York"], ["B-LOC"])
        with pytest.raises(InputValueError, match=r"whitespace.*'B LOC'.*\"jsonl\""):
            writer.lines(["York"], ["B LOC"])
        if format != "conll":
            with pytest.raises(InputValueError, match=r"no tab.*'not\\tsure'.*\"jsonl\""):
                PredictionWriter(format, "classify").lines(["York"], "not\tsure", 0.5)
