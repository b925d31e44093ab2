"""What is to be embedded, one sentence at a time: files, globs, URLs and the standard input."""

from __future__ import annotations

import glob
import math
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple

from bridge.checks import check_choice
from bridge.errors import InputTypeError, InputValueError, ResourceNotFoundError
from bridge.optional import require
from bridge.resources.config import REMOTE
from bridge.resources.fetch import fetch
from bridge.text.lines import check_exists, opened, read_lines, stdin, unpacked
from bridge.text.readers import read_examples

InputFormat = Literal["text", "tsv", "jsonl", "conll", "parquet"]
OnError = Literal["raise", "skip"]
STDIN = "-"
Path_ = str | os.PathLike[str]


class Sentence(NamedTuple):
    """A sentence of a corpus; an empty line has no tokens."""

    text: str
    """The line without the whitespace around it, or the tokens with spaces between them."""
    tokens: list[str]


class Corpus:
    """The sentences of one or more inputs, in their order. Memory does not grow with them.

    Args:
        inputs: a path, a URL (fetched first), a glob such as `"news/*.txt"` (its files in the order of their names),
            `"-"` for the standard input, or a list of these. Names that end in `.gz` are unpacked.
        input_format: what the files hold, see `bridge.text.readers`; `"parquet"` for a column of sentences or token
            lists. By default `"parquet"` where the name ends so, else `"text"`: a sentence a line, its tokens between
            whitespace.
        text_column: see `bridge.text.readers`; of Parquet, by default `sentence`.
        on_error: whether a line that is not UTF-8 is an error, or with `"skip"` becomes an empty sentence and is told.

    Attributes:
        files: local paths, or `"-"`.
        total_bytes: of all inputs together, or None where one has no size, such as a pipe.
        skipped_lines: number of lines that were not UTF-8, and `skipped`, what was wrong with the first of them.

    Raises:
        ResourceNotFoundError: there is no such file, or no file of that glob.
        InputTypeError, InputValueError: another argument, or what a line holds; the message names file and line.
    """

    MOST_SKIPPED_SHOWN = 10

    def __init__(
        self,
        inputs: Path_ | Sequence[Path_],
        *,
        input_format: InputFormat | None = None,
        text_column: str | None = None,
        on_error: OnError = "raise",
    ) -> None:
        if input_format is not None:
            check_choice("input_format", input_format, InputFormat)
        check_choice("on_error", on_error, OnError)
        self.names = _expanded(inputs)
        self.input_format = input_format
        self.text_column = text_column
        self.on_error = on_error
        formats = {self.format_of(name) for name in self.names}
        if text_column is not None and "text" in formats:
            raise InputValueError(
                f"`text_column` must be left out for text. Received: {text_column!r}. Name the format with "
                "`input_format`."
            )
        if on_error == "skip" and formats != {"text"}:
            raise InputValueError(
                f'`on_error="skip"` must be left out for {" and ".join(sorted(formats - {"text"}))}. Received: it: in '
                "text alone a line stands for itself. Convert the file to UTF-8 first."
            )
        if "parquet" in formats:
            if any(name == STDIN and self.format_of(name) == "parquet" for name in self.names):
                raise InputValueError(
                    '`input_format="parquet"` must come with files. Received: the standard input, in which nothing can '
                    "be looked up. Write it to a file first."
                )
            require("pyarrow", "parquet")
        self.files = [name if name == STDIN else str(_local(name)) for name in self.names]
        self.skipped_lines = 0
        self.skipped: list[str] = []
        self._sizes = [os.path.getsize(file) if os.path.isfile(file) else 0 for file in self.files]  # 0 for a pipe
        self.total_bytes = sum(self._sizes) if all(map(os.path.isfile, self.files)) else None
        self._bytes_before = 0
        self._position: Callable[[], float] = lambda: 0.0

    def format_of(self, name: str) -> InputFormat:
        """What an input holds."""
        return self.input_format or ("parquet" if name.lower().endswith(".parquet") else "text")

    @property
    def tokenization(self) -> Literal["whitespace", "tokens"]:
        """Whether all lines are split at whitespace, or tokens may be given."""
        return "whitespace" if {*map(self.format_of, self.names)} == {"text"} else "tokens"

    @property
    def position(self) -> float:
        """Bytes of `total_bytes` that were read."""
        return self._bytes_before + self._position()

    def sentences(self) -> Iterator[Sentence]:
        """Reads everything, from the begin. The standard input can be read once."""
        self._bytes_before, self.skipped_lines, self.skipped = 0, 0, []
        for name, file, size in zip(self.names, self.files, self._sizes, strict=True):
            yield from self._read(name, file)
            self._position = lambda: 0.0
            self._bytes_before += size

    def _read(self, name: str, path: str) -> Iterator[Sentence]:
        if self.format_of(name) == "parquet":
            yield from self._read_parquet(path)
        elif path == STDIN:
            yield from self._read_stream(stdin(), "stdin", name)
        else:
            with opened(path) as file:
                if self.total_bytes is not None:  # a pipe can't tell
                    self._position = file.tell
                yield from self._read_stream(unpacked(file, name), Path(name).name, name)

    def _read_stream(self, stream: BinaryIO, place: str, name: str) -> Iterator[Sentence]:
        format = self.format_of(name)
        if format == "text":
            for _, text in read_lines(stream, place, self._skip if self.on_error == "skip" else None):
                yield Sentence(text.strip(), text.split())
        else:
            arguments: dict[str, Any] = {"format": format, "text_column": self.text_column, "allow_empty": True}
            for example in read_examples(stream, **arguments):
                yield Sentence(" ".join(example.tokens), example.tokens)

    def _read_parquet(self, path: str) -> Iterator[Sentence]:
        parquet, arrow = require("pyarrow.parquet", "parquet"), require("pyarrow", "parquet")
        column = self.text_column or "sentence"
        with opened(path) as stream:
            try:
                file = parquet.ParquetFile(stream, page_checksum_verification=True)
                if column not in file.schema_arrow.names:
                    raise InputValueError(
                        f"`text_column` must be a column of {path}. Received: {column!r}. It has: "
                        f"{', '.join(file.schema_arrow.names)}."
                    )
                rows, size = 0, os.path.getsize(path)
                for batch in file.iter_batches(columns=[column], batch_size=4096):
                    for number, cell in enumerate(batch.column(0).to_pylist()):
                        yield sentence_of(cell, f"{Path(path).name}, row {rows + number}")
                    rows += len(batch)
                    done = size * rows / max(1, file.metadata.num_rows)
                    self._position = lambda done=done: done  # type: ignore[misc]
            except (arrow.ArrowException, UnicodeDecodeError) as error:
                raise InputValueError(f"{path} must be a Parquet file, its text UTF-8. Received: {error}.") from error

    def _skip(self, problem: str) -> None:
        self.skipped_lines += 1
        if len(self.skipped) < self.MOST_SKIPPED_SHOWN:
            self.skipped.append(problem)


def sentence_of(cell: Any, place: str) -> Sentence:
    """A cell of a column as a sentence: text is split at whitespace, token lists stay, nothing is an empty sentence.

    Raises:
        InputTypeError: it is neither.
        InputValueError: a token is empty.
    """
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):  # pandas' missing value
        return Sentence("", [])
    if isinstance(cell, str):
        return Sentence(cell.strip(), cell.split())
    tokens: list[Any] = list(cell) if isinstance(cell, Sequence) or getattr(cell, "ndim", 0) == 1 else [None]
    if isinstance(cell, bytes) or not all(isinstance(token, str) for token in tokens):
        raise InputTypeError(
            f"{place}: a sentence must be text or a list of tokens. Received: {cell!r:.80} of type "
            f"{type(cell).__name__}."
        )
    if not all(tokens):
        raise InputValueError(f"{place}: a token must not be empty. Received: {cell!r:.80}.")
    return Sentence(" ".join(tokens), tokens)


def _expanded(inputs: Path_ | Sequence[Path_]) -> list[str]:
    """Every input by its name; globs are looked up."""
    listed = [inputs] if isinstance(inputs, str | os.PathLike) else inputs
    if not isinstance(listed, Sequence) or isinstance(listed, bytes):
        raise InputTypeError(
            f"`inputs` must be a path or a list of paths. Received: {inputs!r:.80} of type {type(inputs).__name__}."
        )
    if not listed:
        raise InputValueError("`inputs` must name a file at least. Received: an empty list.")
    names: list[str] = []
    for path in listed:
        if not isinstance(path, str | os.PathLike):
            raise InputTypeError(f"`inputs` must hold paths. Received: {path!r:.80} of type {type(path).__name__}.")
        name = os.path.expanduser(os.fspath(path))
        if name == STDIN or REMOTE.match(name) or os.path.exists(name) or not glob.has_magic(name):
            names.append(name)
            continue
        found = sorted(file for file in glob.glob(name, recursive=True) if os.path.isfile(file))
        if not found:
            raise ResourceNotFoundError(
                f"`inputs` must name files that are there. Received: {name!r}, and no file is of that pattern. Correct "
                "it, or the working directory."
            )
        names += found
    if names.count(STDIN) > 1:
        raise InputValueError('`inputs` must name the standard input, "-", once. Received: it several times.')
    return names


def _local(name: str) -> Path:
    if REMOTE.match(name):
        return fetch(name, "`inputs`", remedy="Or download the file yourself, and name it.")
    check_exists(name)
    if os.path.isdir(name):
        raise InputValueError(
            f"`inputs` must name files. Received: the folder {name!r}. Name its files, such as "
            f"{os.path.join(name, '*')!r}."
        )
    return Path(name)
