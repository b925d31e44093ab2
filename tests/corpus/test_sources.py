"""What is read: files, globs, URLs, the standard input, and lines that are not as they should be."""

import gzip
import io
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from resources.http_server import Server

from bridge.corpus.sources import Corpus, Sentence, sentence_of
from bridge.errors import InputTypeError, InputValueError, ResourceNotFoundError


def texts(inputs: Any, **arguments: Any) -> list[str]:
    return [sentence.text for sentence in Corpus(inputs, **arguments).sentences()]


@hypothesis.given(st.lists(st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]), max_size=20)))
def test_lines_are_what_python_splits(tmp_path_factory: pytest.TempPathFactory, lines: list[str]) -> None:
    path = tmp_path_factory.getbasetemp() / "lines.txt"
    path.write_bytes("".join(f"{line}\n" for line in lines).encode())
    # A file that begins with a byte order mark is a file with one.
    expected = [line.removeprefix("\ufeff") if number == 0 else line for number, line in enumerate(lines)]
    found = list(Corpus(path).sentences())
    assert [sentence.tokens for sentence in found] == [line.split() for line in expected]
    assert [sentence.text for sentence in found] == [line.removesuffix("\r").strip() for line in expected]


def test_ends_of_lines_marks_and_empty_lines(tmp_path: Path) -> None:
    path = tmp_path / "dos.txt"
    path.write_bytes(b"\xef\xbb\xbfthe cat\r\n\r\n  sat \t down\r\n\n/ . /")
    assert list(Corpus(path).sentences()) == [
        Sentence("the cat", ["the", "cat"]),
        Sentence("", []),
        Sentence("sat \t down", ["sat", "down"]),
        Sentence("", []),
        Sentence("/ . /", ["/", ".", "/"]),
    ]


def test_several_files_and_globs_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("b.txt", "a.txt", "c.tsv"):
        (tmp_path / name).write_text(f"{name}\n")
    with gzip.open(tmp_path / "d.txt.gz", "wt") as file:
        file.write("packed\n")
    (tmp_path / "folder.txt").mkdir()
    monkeypatch.chdir(tmp_path)
    assert texts(["c.tsv", "*.txt", "d.txt.gz", "a.txt"]) == ["c.tsv", "a.txt", "b.txt", "packed", "a.txt"]
    (tmp_path / "[1].txt").write_text("a name with brackets")
    assert texts("[1].txt") == ["a name with brackets"]
    assert texts(Path("a.txt")) == ["a.txt"]


def test_columns(tmp_path: Path) -> None:
    (tmp_path / "a.conll").write_text("the DT\ncat NN\n\nsat VB\n")
    (tmp_path / "a.jsonl").write_text(json.dumps({"tokens": ["New York", "is"]}) + "\n\n")
    assert texts(tmp_path / "a.conll", input_format="conll") == ["the cat", "sat"]
    assert list(Corpus(tmp_path / "a.jsonl", input_format="jsonl").sentences()) == [
        Sentence("New York is", ["New York", "is"]),
        Sentence("", []),
    ]
    table = pyarrow.table({"text": ["the  cat", None, ""], "tokens": [["New York"], None, []]})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet", row_group_size=2)
    read = [sentence.tokens for sentence in Corpus(tmp_path / "a.parquet", text_column="text").sentences()]
    assert read == [["the", "cat"], [], []]
    read = [sentence.tokens for sentence in Corpus(tmp_path / "a.parquet", text_column="tokens").sentences()]
    assert read == [["New York"], [], []]
    with pytest.raises(InputValueError, match=r"`text_column` must be a column.*'sentence'. It has: text, tokens"):
        texts(tmp_path / "a.parquet")
    (tmp_path / "b.parquet").write_text("no")
    with pytest.raises(InputValueError, match=r"b\.parquet must be a Parquet file"):
        texts(tmp_path / "b.parquet")


def test_what_is_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "latin.txt"
    path.write_bytes(b"one\ncaf\xe9 two\nthree\n\xff\n")
    with pytest.raises(InputValueError, match=r"latin.txt, line 2: .* the byte 0xe9 at position 3 of the line.*iconv"):
        texts(path)
    corpus = Corpus(path, on_error="skip")
    assert [sentence.tokens for sentence in corpus.sentences()] == [["one"], [], ["three"], []]
    assert corpus.skipped_lines == 2
    assert [problem.partition(":")[0] for problem in corpus.skipped] == ["latin.txt, line 2", "latin.txt, line 4"]


def test_position_ends_at_the_size(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}.txt").write_text("the cat sat\n" * 10_000)
    corpus = Corpus([tmp_path / "0.txt", tmp_path / "1.txt", tmp_path / "2.txt"])
    positions = [corpus.position for _ in corpus.sentences()]
    assert corpus.total_bytes == 360_000
    assert positions == sorted(positions)
    assert 110_000 < positions[10_000] < 140_000
    assert corpus.position == 360_000


def test_the_standard_input_and_pipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "from bridge.corpus.sources import Corpus; print([s.tokens for s in Corpus('-').sentences()])"
    run = subprocess.run([sys.executable, "-c", code], input=b"a b\n\nc", capture_output=True, check=True)
    assert run.stdout.strip() == b"[['a', 'b'], [], ['c']]"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"x y\n")))
    assert texts("-") == ["x y"]
    with pytest.raises(InputValueError, match="once"):
        Corpus(["-", "-"])
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_text("through a pipe\n"))
    writer.start()
    corpus = Corpus(pipe)
    assert [sentence.text for sentence in corpus.sentences()] == ["through a pipe"]
    assert corpus.total_bytes is None
    writer.join()


@pytest.mark.filterwarnings("ignore:Please install grpcio-status:ImportWarning")
def test_urls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CACHED_PATH_CACHE_ROOT", str(tmp_path / "cache"))
    server = Server()
    try:
        server.files = {"/a.txt": b"from afar\n", "/b.txt.gz": gzip.compress(b"packed\n")}
        assert texts([f"{server.url}/a.txt", f"{server.url}/b.txt.gz"]) == ["from afar", "packed"]
        with pytest.raises(ResourceNotFoundError, match=r"`inputs` must name a file that can be fetched.*yourself"):
            Corpus(f"{server.url}/none.txt")
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("inputs", "kind", "message"),
    [
        ("none.txt", ResourceNotFoundError, "none.txt"),
        ("*.nothing", ResourceNotFoundError, r"\*.nothing"),
        ("", ResourceNotFoundError, "''"),
        (".", InputValueError, "must name files. Received: the folder"),
        ([], InputValueError, "must name a file at least"),
        (3, InputTypeError, "must be a path or a list of paths"),
        ([3], InputTypeError, "must hold paths. Received: 3"),
        (b"a", InputTypeError, "must be a path"),
    ],
)
def test_wrong_inputs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inputs: Any, kind: type[Exception], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(kind, match=message):
        Corpus(inputs)


def test_wrong_arguments(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("a\n")
    with pytest.raises(InputValueError, match="`input_format` must be"):
        Corpus(path, input_format="docx")  # type: ignore[arg-type]
    with pytest.raises(InputValueError, match="`on_error` must be"):
        Corpus(path, on_error="ignore")  # type: ignore[arg-type]
    with pytest.raises(InputValueError, match="`text_column` must be left out for text"):
        Corpus(path, text_column="a")
    with pytest.raises(InputValueError, match="in text alone"):
        Corpus(path, input_format="jsonl", on_error="skip")


def test_a_file_that_vanishes_or_is_cut(tmp_path: Path) -> None:
    path, packed = tmp_path / "a.txt", tmp_path / "a.txt.gz"
    path.write_text("a\n")
    corpus = Corpus(path)
    path.unlink()
    with pytest.raises(ResourceNotFoundError, match=r"a\.txt"):
        list(corpus.sentences())
    packed.write_bytes(gzip.compress(b"a line\n" * 1000)[:-20])
    with pytest.raises(InputValueError, match="must be whole and gzipped"):
        texts(packed)


def test_cells() -> None:
    assert sentence_of(np.array(["a", "b"], dtype=object), "row 1") == Sentence("a b", ["a", "b"])
    assert sentence_of(float("nan"), "row 1") == Sentence("", [])
    for wrong in (3, 1.5, b"bytes", [b"a"], [1], {"a": 1}):
        with pytest.raises(InputTypeError, match="row 7: a sentence must be text or a list of tokens"):
            sentence_of(wrong, "row 7")
    with pytest.raises(InputValueError, match="row 7: a token must not be empty"):
        sentence_of(["a", ""], "row 7")
