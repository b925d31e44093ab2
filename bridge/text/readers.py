"""Reading sentences with their labels or tags, one at a time: plain text, TSV, JSON Lines and CoNLL.

All files are UTF-8, with or without a byte order mark, with `\\n` or `\\r\\n`, and may be gzipped (`.gz`). A sentence
is split at whitespace unless the file gives its tokens.

- `text` (`.txt`): a sentence a line, without labels.
- `tsv` (`.tsv`): the first line names the columns; by default `sentence`, and `label` or `tags` (tags separated by
  spaces). A line is a row: there is no quoting.
- `jsonl` (`.jsonl`): an object a line; by default with `tokens` (a list) or `sentence`, and `label` or `tags`.
- `conll` (`.conll`, `.iob`, `.iob2`, `.bio`): a token a line, a blank line after a sentence; columns separated by tabs
  or else by spaces, by default the token in the first and its tag in the last. `-DOCSTART-` lines are skipped.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple

from bridge.checks import check_choice
from bridge.errors import InputValueError
from bridge.text.lines import Line, read_lines

Format = Literal["text", "tsv", "jsonl", "conll"]
Task = Literal["classify", "tag"]
SUFFIXES: dict[str, Format] = {
    ".txt": "text",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".conll": "conll",
    ".iob": "conll",
    ".iob2": "conll",
    ".bio": "conll",
}
TARGETS = {"classify": "label", "tag": "tags"}


class Example(NamedTuple):
    """A sentence, what is known about it, and where it was read."""

    tokens: list[str]
    target: str | list[str] | None = None
    """A label, or a tag for every token, or None."""
    place: str = ""
    """Such as `train.tsv, line 12`."""


class _Columns(NamedTuple):
    """Which columns or keys to read; None for the defaults."""

    task: Task | None
    text: str | None
    target: str | None
    allow_empty: bool


def format_of(path: str | os.PathLike[str]) -> Format:
    """The format that a file's suffix says.

    Raises:
        InputValueError: the suffix says none.
    """
    name = Path(path).name.lower()
    suffix = Path(name.removesuffix(".gz")).suffix
    if suffix not in SUFFIXES:
        raise InputValueError(
            f"`format` must be given where the file's suffix does not say it. Received: {os.fspath(path)!r}, whose "
            f"suffix is none of {', '.join(SUFFIXES)}. Give one of {', '.join(dict.fromkeys(SUFFIXES.values()))}."
        )
    return SUFFIXES[suffix]


def read_examples(
    source: str | os.PathLike[str] | BinaryIO,
    *,
    task: Task | None = None,
    format: Format | None = None,
    text_column: str | None = None,
    target_column: str | None = None,
    allow_empty: bool = False,
) -> Iterator[Example]:
    """Reads examples one at a time; memory does not grow with the file.

    Args:
        source: a path, or an open binary stream such as `sys.stdin.buffer`.
        task: `"classify"` reads a label a sentence, `"tag"` a tag a token, None only the sentences.
        format: see the module; by default the file's suffix says it.
        text_column: column or key of the sentence or its tokens; for CoNLL its number, 0 for the first one.
        target_column: column or key of the label or tags, likewise; -1 is the last one.
        allow_empty: an empty line or sentence is an `Example` without tokens. Otherwise empty lines of TSV and
            JSON Lines are skipped, and empty sentences are an error.

    Returns:
        An iterator of `Example`s.

    Raises:
        InputValueError: an argument, or what a line holds; the message names the file and the line.
        ResourceNotFoundError: the file cannot be opened.

    Example:
        >>> for example in read_examples("train.tsv", task="classify"):
        ...     print(example.tokens, example.target)
    """
    if format is None:
        if not isinstance(source, str | os.PathLike):
            raise InputValueError('`format` must be given for a stream. Received: None. Give for example "text".')
        format = format_of(source)
    check_choice("format", format, Format)
    if task is not None:
        check_choice("task", task, Task)
    if (format, task) in {("text", "classify"), ("text", "tag"), ("conll", "classify")}:
        raise InputValueError(
            f'`format="{format}"` has no {TARGETS[str(task)]}. Received: task="{task}". Use '
            + ('task="tag".' if format == "conll" else "TSV, JSON Lines or CoNLL.")
        )
    if format == "text" and text_column is not None:
        raise InputValueError(f'`text_column` must be left out for format="text". Received: {text_column!r}.')
    if format == "conll":
        for name, column in (("text_column", text_column), ("target_column", target_column)):
            if column is not None and not (isinstance(column, str) and re.fullmatch(r"-?\d{1,9}", column)):
                raise InputValueError(
                    f"`{name}` must be a column's number for CoNLL, 0 for the first and -1 for the last. "
                    f"Received: {column!r:.80}. It is text, as on the command line."
                )
    columns = _Columns(task, text_column, target_column, allow_empty)
    where = source if isinstance(source, str | os.PathLike) else getattr(source, "name", None)
    name = Path(where).name.strip("<>") if isinstance(where, str | os.PathLike) else "stream"  # a pipe's is a number
    return _READERS[format](read_lines(source, name), columns)


def _read_text(lines: Iterator[Line], columns: _Columns) -> Iterator[Example]:
    for place, text in lines:
        tokens = text.split()
        if tokens or columns.allow_empty:
            yield Example(tokens, None, place)


def _read_tsv(lines: Iterator[Line], columns: _Columns) -> Iterator[Example]:
    header = next(lines, None)
    if header is None:
        raise InputValueError("A TSV file must begin with a line that names its columns. Received: an empty file.")
    names = header.text.split("\t")
    text_index = _column(header.place, names, columns.text or "sentence")
    target_index = _column(header.place, names, columns.target or TARGETS[columns.task]) if columns.task else None
    for place, text in lines:
        if not text.strip():
            if columns.allow_empty:
                yield Example([], None, place)
            continue
        fields = text.split("\t")
        if len(fields) != len(names):
            raise InputValueError(
                f"{place}: a row must have {len(names)} columns, separated by tabs: {', '.join(names)}. Received: "
                f"{len(fields)}: {text!r:.80}."
            )
        target = None if target_index is None else fields[target_index]
        yield _checked(place, fields[text_index], target, columns)


def _column(place: str, names: list[str], wanted: str) -> int:
    if names.count(wanted) != 1:
        raise InputValueError(
            f"{place}: the first line must name the column {wanted!r} once. Received: {', '.join(map(repr, names))}. "
            "Add the name, or say which column to use."
        )
    return names.index(wanted)


def _read_jsonl(lines: Iterator[Line], columns: _Columns) -> Iterator[Example]:
    for place, text in lines:
        if not text.strip():
            if columns.allow_empty:
                yield Example([], None, place)
            continue
        try:
            record = json.loads(text)
        except (ValueError, RecursionError) as error:  # the former of a number of thousands of digits, too
            raise InputValueError(f"{place}: a line must be JSON. Received: {text!r:.80}: {error}.") from error
        if not isinstance(record, dict):
            raise InputValueError(f"{place}: a line must be a JSON object. Received: {text!r:.80}.")
        text_key = columns.text or ("tokens" if "tokens" in record else "sentence")
        sentence = _value(place, record, text_key)
        target = None
        if columns.task:
            target = _value(place, record, columns.target or TARGETS[columns.task])
            if columns.task == "classify" and isinstance(target, int) and not isinstance(target, bool):
                target = str(target)
        example = _checked(place, sentence, target, columns)
        try:
            "".join(example.tokens).encode()
        except UnicodeEncodeError as error:
            raise InputValueError(
                f"{place}: a token must be Unicode. Received: half a surrogate pair, {error.object[error.start]!r}."
            ) from error
        yield example


def _value(place: str, record: dict[str, Any], key: str) -> Any:
    if key not in record:
        raise InputValueError(
            f"{place}: the object must have the key {key!r}. Received: the keys {', '.join(map(repr, record))}. "
            "Add it, or say which key to use."
        )
    return record[key]


def _read_conll(lines: Iterator[Line], columns: _Columns) -> Iterator[Example]:
    rows: list[list[str]] = []
    begin, width = "", None
    for place, text in lines:
        if not text.strip():
            if rows:
                yield _conll_example(begin, rows, columns)
                rows = []
            continue
        # Tabs first: a token may hold a space then.
        fields = text.rstrip("\t ").split("\t") if "\t" in text.rstrip("\t ") else re.split(" +", text.strip(" \t"))
        if fields[0] == "-DOCSTART-":
            continue
        width = width or len(fields)
        if len(fields) != width:
            raise InputValueError(
                f"{place}: a line must have {width} columns, as the first one has. Received: {len(fields)}: "
                f"{text!r:.80}."
            )
        for column in (columns.text or "0", (columns.target or "-1") if columns.task else "0"):
            if not -width <= int(column) < width:
                raise InputValueError(
                    f"{place}: a line must have a column {column}, counted from 0. Received: {width} columns."
                )
        if columns.task and width == 1:
            raise InputValueError(
                f"{place}: a line must have a token and a tag, separated by a tab or spaces. Received: {text!r:.80}."
            )
        begin = begin if rows else place
        rows.append(fields)
    if rows:
        yield _conll_example(begin, rows, columns)


def _conll_example(place: str, rows: list[list[str]], columns: _Columns) -> Example:
    tokens = [row[int(columns.text or 0)] for row in rows]
    tags = [row[int(columns.target or -1)] for row in rows] if columns.task else None
    return _checked(place, tokens, tags, columns)


def _checked(place: str, sentence: Any, target: Any, columns: _Columns) -> Example:
    """An example of what was read, or the error that names what is wrong with it."""
    tokens = sentence.split() if isinstance(sentence, str) else sentence
    if not _is_strings(tokens):
        raise InputValueError(f"{place}: a sentence must be text or a list of tokens. Received: {sentence!r:.80}.")
    if not all(tokens):
        raise InputValueError(f"{place}: a token must not be empty. Received: {tokens!r:.80}.")
    if not tokens and not columns.allow_empty:
        raise InputValueError(f"{place}: a sentence must have a token. Received: {sentence!r:.80}. Leave the line out.")
    if columns.task == "classify" and (not isinstance(target, str) or not target.strip()):
        raise InputValueError(f"{place}: a label must be text. Received: {target!r:.80}.")
    if columns.task == "tag":
        target = target.split() if isinstance(target, str) else target
        if not _is_strings(target) or not all(target):
            raise InputValueError(
                f"{place}: tags must be text separated by spaces, or a list. Received: {target!r:.80}."
            )
        if len(target) != len(tokens):
            raise InputValueError(
                f"{place}: a sentence must have a tag for each of its {len(tokens)} tokens. Received: {len(target)} "
                "tags."
            )
    return Example(tokens, target, place)


def _is_strings(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(value, str) for value in values)


_READERS = {"text": _read_text, "tsv": _read_tsv, "jsonl": _read_jsonl, "conll": _read_conll}
