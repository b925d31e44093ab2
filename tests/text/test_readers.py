"""Every format gives the same examples, and every broken file an error with its line."""

import gzip
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import InputValueError, ResourceNotFoundError
from bridge.text.readers import Example, Format, Task, format_of, read_examples

SENTENCES = [["the", "soup", "was", "bad"], ["\u00c5sa", "\u732b", "#hash", '"quoted"']]
LABELS = ["blame", "praise"]
TAGS = [["O", "B-FOOD", "O", "O"], ["B-PER", "O", "I-PER", "O"]]

FILES: dict[tuple[Format, Task], str] = {
    ("tsv", "classify"): "id\tlabel\tsentence\n"
    + "".join(f"7\t{label}\t{' '.join(tokens)}\n" for label, tokens in zip(LABELS, SENTENCES, strict=True)),
    ("tsv", "tag"): "sentence\ttags\n"
    + "".join(f"{' '.join(tokens)}\t{' '.join(tags)}\n" for tokens, tags in zip(SENTENCES, TAGS, strict=True)),
    ("jsonl", "classify"): "".join(
        json.dumps({"sentence": " ".join(tokens), "label": label}) + "\n"
        for tokens, label in zip(SENTENCES, LABELS, strict=True)
    ),
    ("jsonl", "tag"): "".join(
        json.dumps({"tokens": tokens, "tags": tags}) + "\n" for tokens, tags in zip(SENTENCES, TAGS, strict=True)
    ),
    ("conll", "tag"): "-DOCSTART- -X- O\n\n"
    + "\n".join(
        "".join(f"{token} NN {tag}\n" for token, tag in zip(tokens, tags, strict=True))
        for tokens, tags in zip(SENTENCES, TAGS, strict=True)
    ),
}


def pairs(examples: Iterator[Example]) -> list[tuple[list[str], Any]]:
    return [(example.tokens, example.target) for example in examples]


def wanted(task: Task) -> list[tuple[list[str], Any]]:
    return list(zip(SENTENCES, LABELS if task == "classify" else TAGS, strict=True))


@pytest.mark.parametrize(("format", "task"), FILES)
@pytest.mark.parametrize("ends", ["\n", "\r\n"])
@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_every_format(tmp_path: Path, format: Format, task: Task, ends: str, zipped: bool, mark: str) -> None:
    content = (mark + FILES[format, task]).replace("\n", ends).encode()
    path = tmp_path / (f"data.{format}" + (".gz" if zipped else ""))
    path.write_bytes(gzip.compress(content, mtime=0) if zipped else content)
    assert pairs(read_examples(path, task=task)) == wanted(task)
    # Without a task the same sentences, and nothing else.
    assert [example.tokens for example in read_examples(path)] == SENTENCES
    # From a stream, and without an end of its last line.
    stream = io.BytesIO(content.rstrip(b"\r\n"))
    assert pairs(read_examples(stream, task=task, format=format)) == wanted(task)


def test_conll_with_tabs_keeps_spaces_in_tokens() -> None:
    stream = io.BytesIO(b"New York\tB-LOC\nis\tO\n\n\n\nnew\tO\n")
    assert pairs(read_examples(stream, task="tag", format="conll")) == [
        (["New York", "is"], ["B-LOC", "O"]),
        (["new"], ["O"]),
    ]


def test_a_no_break_space_separates_no_columns() -> None:
    stream = io.BytesIO("10\u00a0000 O\n".encode())
    assert pairs(read_examples(stream, task="tag", format="conll")) == [(["10\u00a0000"], ["O"])]


def test_columns_can_be_chosen() -> None:
    tsv = io.BytesIO(b"text\tstars\nnot bad\t4\n")
    chosen = read_examples(tsv, task="classify", format="tsv", text_column="text", target_column="stars")
    assert pairs(chosen) == [(["not", "bad"], "4")]
    jsonl = io.BytesIO(b'{"words": ["not", "bad"], "stars": 4}\n')
    chosen = read_examples(jsonl, task="classify", format="jsonl", text_column="words", target_column="stars")
    assert pairs(chosen) == [(["not", "bad"], "4")]
    conll = io.BytesIO(b"1 not O X\n2 bad B-A X\n")
    chosen = read_examples(conll, task="tag", format="conll", text_column="1", target_column="-2")
    assert pairs(chosen) == [(["not", "bad"], ["O", "B-A"])]


def test_empty_lines_can_keep_their_place() -> None:
    text = io.BytesIO(b"\na b\n \nc")
    assert [example.tokens for example in read_examples(text, format="text", allow_empty=True)] == [
        [],
        ["a", "b"],
        [],
        ["c"],
    ]
    jsonl = io.BytesIO(b'{"tokens": []}\n\n{"sentence": "c"}\n')
    assert [example.tokens for example in read_examples(jsonl, format="jsonl", allow_empty=True)] == [[], [], ["c"]]
    tsv = io.BytesIO(b"sentence\tx\n\t1\n\nc\t2\n")
    assert [example.tokens for example in read_examples(tsv, format="tsv", allow_empty=True)] == [[], [], ["c"]]


def test_reading_is_lazy() -> None:
    class Endless(io.RawIOBase):
        """A stream that never ends."""

        def __next__(self) -> bytes:
            return b"a b\n"

    examples = read_examples(Endless(), format="text")  # type: ignore[arg-type]
    assert [next(examples).place for _ in range(3)] == [f"stream, line {number}" for number in (1, 2, 3)]


tokens = st.text(st.characters(exclude_categories=["Cs", "Zs", "Zl", "Zp", "Cc"]), min_size=1).filter(
    lambda token: token.split() == [token] and token != "-DOCSTART-" and "\ufeff" not in token
)
tagged_sentences = st.lists(
    st.lists(st.tuples(tokens, st.sampled_from(["O", "B-X", "I-X"])), min_size=1, max_size=5), max_size=5
)


@given(tagged_sentences)
def test_conll_and_json_agree_with_what_was_written(sentences: list[list[tuple[str, str]]]) -> None:
    conll = "\n".join("".join(f"{token}\t{tag}\n" for token, tag in sentence) for sentence in sentences)
    rows = [{"tokens": [token for token, _ in row], "tags": [tag for _, tag in row]} for row in sentences]
    jsonl = "".join(json.dumps(row) + "\n" for row in rows)
    written = [(row["tokens"], row["tags"]) for row in rows]
    assert pairs(read_examples(io.BytesIO(conll.encode()), task="tag", format="conll")) == written
    assert pairs(read_examples(io.BytesIO(jsonl.encode()), task="tag", format="jsonl")) == written


@pytest.mark.parametrize(
    ("name", "task", "content", "message"),
    [
        ("a.tsv", "classify", b"", "must begin with a line that names its columns.*empty file"),
        ("a.tsv", "classify", b"text\tlabel\n", r"a.tsv, line 1: .*column 'sentence' once. Received: 'text', 'label'"),
        ("a.tsv", "classify", b"sentence\tlabel\tlabel\n", r"line 1: .*column 'label' once"),
        ("a.tsv", "classify", b"sentence\tlabel\na\n", r"a.tsv, line 2: a row must have 2 columns.*Received: 1: 'a'"),
        ("a.tsv", "classify", b"sentence\tlabel\na\tx\ty\n", r"line 2: a row must have 2 columns.*Received: 3"),
        ("a.tsv", "classify", b"sentence\tlabel\na\tx\n \tx\n", r"line 3: a sentence must have a token"),
        ("a.tsv", "classify", b"sentence\tlabel\na\t\n", r"line 2: a label must be text. Received: ''"),
        ("a.tsv", "tag", b"sentence\ttags\na b\tO\n", r"line 2: .*tag for each of its 2 tokens. Received: 1 tags"),
        ("a.tsv", "tag", b"sentence\ttags\na\xff\tO\n", r"line 2: the file must be UTF-8.*0xff at position 1"),
        ("a.jsonl", "tag", b'\n{"tokens": ["a"]\n', r"a.jsonl, line 2: a line must be JSON.*Received: "),
        ("a.jsonl", "tag", b"[1]\n", r"line 1: a line must be a JSON object"),
        ("a.jsonl", "tag", b'{"tokens": ["a"]}\n', r"line 1: the object must have the key 'tags'.*keys 'tokens'"),
        ("a.jsonl", "tag", b'{"words": ["a"]}\n', r"line 1: the object must have the key 'sentence'"),
        ("a.jsonl", "tag", b'{"tokens": ["a", ""], "tags": ["O", "O"]}\n', r"a token must not be empty"),
        ("a.jsonl", "tag", b'{"tokens": ["a", 1], "tags": ["O", "O"]}\n', r"a sentence must be text or a list"),
        ("a.jsonl", "tag", b'{"tokens": ["a"], "tags": [1]}\n', r"tags must be text separated by spaces, or a list"),
        ("a.jsonl", "tag", b'{"tokens": ["a"], "tags": ["O", "O"]}\n', r"each of its 1 tokens. Received: 2 tags"),
        ("a.jsonl", "tag", b'{"tokens": ["\\ud800"], "tags": ["O"]}\n', r"half a surrogate pair, '\\ud800'"),
        ("a.jsonl", "classify", b'{"sentence": "a", "label": true}\n', r"a label must be text. Received: True"),
        ("a.jsonl", "classify", b'{"sentence": " ", "label": "x"}\n', r"a sentence must have a token"),
        ("a.conll", "tag", b"a\n", r"a.conll, line 1: a line must have a token and a tag"),
        ("a.conll", "tag", b"a O\nb X O\n", r"a.conll, line 2: a line must have 2 columns.*Received: 3: 'b X O'"),
        ("a.tsv.gz", "tag", b"sentence\ttags\n", r"must be whole and gzipped.*Not a gzipped file"),
        ("a.tsv.gz", "tag", gzip.compress(b"sentence\ttags\na\tO\n", mtime=0)[:-9], r"must be whole and gzipped"),
    ],
)
def test_errors_name_file_line_and_rule(tmp_path: Path, name: str, task: Task, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputValueError, match=f"(?s){message}"):
        list(read_examples(tmp_path / name, task=task))


def test_places_are_where_a_sentence_begins() -> None:
    conll = io.BytesIO(b"\na O\nb O\n\nc O\n")
    assert [example.place for example in read_examples(conll, task="tag", format="conll")] == [
        "stream, line 2",
        "stream, line 5",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "`format` must be given for a stream"),
        ({"format": "csv"}, '`format` must be "text" or "tsv" or "jsonl" or "conll". Received: \'csv\''),
        ({"format": "tsv", "task": "parse"}, '`task` must be "classify" or "tag"'),
        ({"format": "text", "task": "tag"}, '`format="text"` has no tags'),
        ({"format": "conll", "task": "classify"}, '`format="conll"` has no label.*Use task="tag"'),
        ({"format": "conll", "text_column": "word"}, "`text_column` must be a column's number.*'word'"),
        ({"format": "text", "text_column": "word"}, "`text_column` must be left out"),
    ],
)
def test_wrong_arguments_are_told_before_reading(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputValueError, match=message):
        read_examples(io.BytesIO(), **arguments)


def test_a_column_that_is_not_there() -> None:
    with pytest.raises(InputValueError, match=r"line 1: a line must have a column 2, counted from 0. Received: 2"):
        list(read_examples(io.BytesIO(b"a O\n"), task="tag", format="conll", text_column="2"))


def test_missing_files_and_folders(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.tsv", tmp_path):
        with pytest.raises(ResourceNotFoundError, match="must exist and be readable"):
            list(read_examples(path, format="tsv"))


def test_formats_of_names() -> None:
    assert format_of("a/b.TSV.gz") == "tsv"
    with pytest.raises(InputValueError, match=r"`format` must be given.*'data.csv'.*\.jsonl.*Give one of text, tsv"):
        format_of("data.csv")
