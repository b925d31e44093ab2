"""Fuzzing of whole corpora: columns, and files with the options of a run."""

import functools
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from fuzz.fuzzing import SLOW, Entry, fuzz, parametrized
from fuzz.values import anything, flags, limits, odd_values, scalars, sentences, tokens
from hypothesis import strategies as st

from bridge import ElmoEncoder, FeatureStore, embed_column, embed_corpus
from bridge.errors import BridgeError
from bridge.features.parquet import read_parquet


@functools.cache
def encoder() -> ElmoEncoder:
    return ElmoEncoder("demo")


def check_column(result: Any, column: Any, **_: Any) -> None:
    assert len(result) == len(column)
    if isinstance(column, list) and all(isinstance(cell, list) for cell in column):
        assert [len(cell) for cell in result] == [len(cell) for cell in column]
    if isinstance(result, np.ndarray):
        assert all(np.isfinite(cell).all() and cell.shape[-1] == 128 for cell in result)


def run(data: bytes, **arguments: Any) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "in.txt").write_bytes(data)
        report = embed_corpus(Path(folder) / "in.txt", Path(folder) / "out", "demo", **arguments)
        if arguments.get("format") == "parquet":
            metadata, rows = read_parquet(report.output)
            return metadata, [row.sentence for row in rows]
        with FeatureStore.open(report.output) as store:
            assert len(store.read()[0]) == store.lengths.sum()
            return report.metadata, list(store.sentences())


def check_corpus(result: Any, data: bytes, **arguments: Any) -> None:
    metadata, texts = result
    assert metadata.tokens >= 0
    if arguments.get("input_format") in (None, "text") and not arguments.get("use_sentence_keys"):
        assert metadata.sentences == len(texts) == data.removesuffix(b"\n").count(b"\n") + bool(data)


def as_arrow(cells: list[Any]) -> Any:
    try:
        return pa.array(cells)
    except (pa.ArrowException, UnicodeEncodeError):  # cells of two kinds, or a lone surrogate
        return cells


cells = st.lists(st.none() | sentences | tokens, max_size=4)
columns = cells | cells.map(as_arrow) | anything | odd_values
lines = (
    tokens.map(lambda token: token.encode("utf-8", "surrogatepass"))
    | st.sampled_from(
        [b"the cat sat", b"", b" ", b"\xff\xfe", b'{"sentence": "a"}', b"sentence\tx", b"a\tb", b"\r", b"a O"]
    )
    | st.binary(max_size=6)
)
options: dict[str, Any] = {
    "layers": st.sampled_from(["all", "top", "average", "none"]),
    "format": st.sampled_from(["hdf5", "parquet", "npz"]),
    "layout": st.sampled_from(["elmo", "packed", "flat"]),
    "dtype": st.sampled_from(["float32", "float16", "int8"]),
    "compression": st.sampled_from([None, "gzip", "lzf", "zstd"]),
    "state": st.sampled_from(["zero", "carry", "x"]),
    "batch_size": limits,
    "max_tokens": limits,
    "use_sentence_keys": flags | scalars,
    "forget_sentences": flags,
    "input_format": st.sampled_from(["text", "tsv", "jsonl", "conll", "parquet", "csv"]),
    "text_column": st.sampled_from(["sentence", "0", "x", "9" * 5000]) | odd_values,
    "on_error": st.sampled_from(["raise", "skip", "x"]),
    "resume": flags | scalars,
    "overwrite": flags | scalars,
}


@st.composite
def runs(draw: st.DrawFn) -> dict[str, Any]:
    names = draw(st.lists(st.sampled_from(sorted(options)), max_size=3, unique=True))
    data = b"\n".join(draw(st.lists(lines, max_size=4)))
    return {"data": data, **{name: draw(options[name]) for name in names}}


TABLE = [
    Entry(
        "embed_column",
        st.fixed_dictionaries(
            {"column": columns}, optional={"layers": st.sampled_from(["all", "top", "x"]), "max_tokens": limits}
        ),
        lambda **arguments: embed_column(config=encoder(), **arguments),
        check_column,
        examples=40,
    ),
    Entry("embed_corpus", runs(), run, check_corpus, examples=12),
    Entry(
        "embed_corpus of inputs",
        st.fixed_dictionaries({"inputs": (scalars | st.lists(scalars, max_size=2))}),
        lambda inputs: embed_corpus(inputs, Path(tempfile.gettempdir()) / "never" / "made", encoder().checkpoint),
        lambda report, inputs: None,
        documented=(BridgeError, OSError),
    ),
]


@parametrized(TABLE)
def test_corpus(entry: Entry) -> None:
    fuzz(entry)


@pytest.mark.slow
@parametrized(TABLE)
def test_corpus_for_long(entry: Entry) -> None:
    assert fuzz(entry, SLOW / 5)["refused"]
