"""`embed_corpus`: AllenNLP's vectors, in AllenNLP's layout and in ours."""

import io
import json
from pathlib import Path
from typing import Any

import h5py
import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
from corpus.allennlp_oracle import allennlp_layers
from models import random_model
from rich.console import Console

from bridge import BridgeError, Checkpoint, ElmoConfig
from bridge.corpus import batching
from bridge.corpus.embed import embed_corpus
from bridge.errors import (
    CheckpointError,
    ConfigError,
    InputTypeError,
    InputValueError,
    OutputError,
    ResourceNotFoundError,
)
from bridge.features.store import FeatureStore

LINES = [
    "the cat sat on the mat .",
    "",
    "and / or",
    "the cat sat on the mat .",
    "../etc/passwd",
    ".",
    "  dogs\tbark  ",
    "x" * 60 + " é" + "é" * 30,
    *(" ".join(f"w{number % 7}" for number in range(length)) for length in (1, 30, 2, 17, 5)),
]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("corpus") / "corpus.txt"
    path.write_text("".join(f"{line}\n" for line in LINES))
    return path


@pytest.fixture(scope="module")
def expected(small: ElmoConfig) -> list[np.ndarray]:
    return allennlp_layers(small, [line.split() for line in LINES])


def small_windows(monkeypatch: pytest.MonkeyPatch, max_tokens: int) -> None:
    """Segments of so many tokens."""

    def take(*arguments: Any, **keywords: Any) -> Any:
        return batching.take_window(*arguments, max_tokens=max_tokens, **keywords)

    monkeypatch.setattr("bridge.corpus.job.take_window", take)


def assert_close(found: Any, wanted: np.ndarray, tolerance: float = 1e-5) -> None:
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerance)


@pytest.mark.parametrize("max_tokens", [1, 20, 10_000])
def test_the_file_is_what_the_elmo_command_wrote(
    corpus: Path,
    expected: list[np.ndarray],
    small: ElmoConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    max_tokens: int,
) -> None:
    small_windows(monkeypatch, max_tokens)
    report = embed_corpus(corpus, tmp_path / "out.hdf5", small)
    with h5py.File(tmp_path / "out.hdf5") as file:
        assert set(file) == {*map(str, range(len(LINES))), "sentence_to_index"}
        for number, wanted in enumerate(expected):
            assert file[str(number)].dtype == np.float32
            assert_close(file[str(number)][()], wanted)
        assert file["sentence_to_index"].shape == (1,)
        index = json.loads(file["sentence_to_index"][0])
    assert index == {line.strip(): str(number) for number, line in enumerate(LINES)}
    assert list(tmp_path.iterdir()) == [tmp_path / "out.hdf5"]
    assert report.metadata.sentences == len(LINES)
    assert report.embedded_tokens == report.metadata.tokens == sum(len(line.split()) for line in LINES)
    assert (report.metadata.empty_sentences, report.metadata.long_tokens) == (1, 2)
    assert 0 <= report.cache_hit_rate < 1


@pytest.mark.slow
@pytest.mark.parametrize("state", ["zero", "warm"])
@pytest.mark.parametrize("layers", ["all", "top", "average"])
@pytest.mark.parametrize(("name", "layout"), [("out.hdf5", "elmo"), ("out.hdf5", "packed"), ("out.parquet", "elmo")])
def test_layers_and_layouts(
    corpus: Path, small: ElmoConfig, tmp_path: Path, state: Any, layers: Any, name: str, layout: Any
) -> None:
    from bridge import ElmoEncoder

    output = tmp_path / name
    embed_corpus(corpus, output, small, layers=layers, layout=layout, state=state, max_tokens=30, batch_size=3)
    # The other engine is AllenNLP's own biLM.
    encoder = ElmoEncoder(small, engine="allennlp", state=state)
    wanted = [encoder.embed([line.split()], layers)[0] for line in LINES]
    if name.endswith("parquet"):
        from bridge.features.parquet import read_parquet

        metadata: Any
        metadata, rows = read_parquet(output)
        found = list(rows)
        assert [row[:2] for row in found] == [(number, line.strip()) for number, line in enumerate(LINES)]
        vectors = [row[2] for row in found]
    else:
        with FeatureStore.open(output, config=small) as store:
            vectors, metadata = list(store), store.metadata
            assert store.layout == layout
            assert [store.sentence(number) for number in range(len(store))] == [line.strip() for line in LINES]
    for values, right in zip(vectors, wanted, strict=True):
        assert_close(values, right)
    assert metadata is not None
    assert (metadata.layers, metadata.state, metadata.dtype) == (layers, state, "float32")
    assert metadata.fingerprint == Checkpoint.open(small).fingerprint
    assert metadata.tokenization == "whitespace"
    assert {"elmo-keras-bridge", "torch", "numpy"} <= set(metadata.versions)


def test_half_precision_on_disk(corpus: Path, expected: list[np.ndarray], small: ElmoConfig, tmp_path: Path) -> None:
    embed_corpus(corpus, tmp_path / "half.hdf5", small, dtype="float16")
    with h5py.File(tmp_path / "half.hdf5") as file:
        for number, wanted in enumerate(expected):
            assert file[str(number)].dtype == np.float16
            np.testing.assert_allclose(file[str(number)][()], wanted, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("batch_size", [2, 3])
def test_carry_is_allennlp_in_the_order_of_the_file(
    small: ElmoConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch_size: int
) -> None:
    lines = [line for line in LINES if line]  # AllenNLP refuses empty ones
    (tmp_path / "corpus.txt").write_text("\n".join(lines))
    small_windows(monkeypatch, 12)
    embed_corpus(tmp_path / "corpus.txt", tmp_path / "out.hdf5", small, state="carry", batch_size=batch_size)
    wanted = allennlp_layers(small, [line.split() for line in lines], batch_size=batch_size, carry=True)
    without = allennlp_layers(small, [line.split() for line in lines])
    with h5py.File(tmp_path / "out.hdf5") as file:
        for number, values in enumerate(wanted):
            assert_close(file[str(number)][()], values)
    assert np.abs(wanted[-1] - without[-1]).max() > 1e-3  # else this test could not fail


def test_sentence_keys(corpus: Path, expected: list[np.ndarray], small: ElmoConfig, tmp_path: Path) -> None:
    embed_corpus(corpus, tmp_path / "out.hdf5", small, use_sentence_keys=True)
    keys = {"and / or": "and %2F or", "../etc/passwd": "..%2Fetc%2Fpasswd", ".": "%2E"}
    with h5py.File(tmp_path / "out.hdf5") as file:
        assert set(file) == {keys.get(line.strip(), line.strip()) for line in LINES if line}
        for line, wanted in zip(LINES, expected, strict=True):
            if line:
                assert_close(file[keys.get(line.strip(), line.strip())][()], wanted)


def test_forgotten_sentences(corpus: Path, small: ElmoConfig, tmp_path: Path) -> None:
    embed_corpus(corpus, tmp_path / "out.hdf5", small, forget_sentences=True)
    with h5py.File(tmp_path / "out.hdf5") as file:
        assert set(file) == set(map(str, range(len(LINES))))


@hypothesis.settings(max_examples=10)
@hypothesis.given(lines=st.lists(st.text("ab /.é\t", max_size=12), max_size=8), max_tokens=st.integers(1, 9))
def test_any_text_in_any_windows(
    small: ElmoConfig, tmp_path_factory: pytest.TempPathFactory, lines: list[str], max_tokens: int
) -> None:
    folder = tmp_path_factory.mktemp("any")
    (folder / "in.txt").write_text("".join(f"{line}\n" for line in lines))
    with pytest.MonkeyPatch.context() as patch:
        small_windows(patch, max_tokens)
        embed_corpus(folder / "in.txt", folder / "out.hdf5", small, layout="packed")
    wanted = allennlp_layers(small, [line.split() for line in lines])
    with FeatureStore.open(folder / "out.hdf5") as store:
        assert len(store) == len(lines)
        for values, right in zip(store, wanted, strict=True):
            assert_close(values, right.transpose(1, 0, 2))


def test_skipped_lines_keep_their_numbers(small: ElmoConfig, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_bytes(b"one\n\xff\xfe\nthree\n")
    with pytest.raises(InputValueError, match=r"in\.txt, line 2: .*UTF-8"):
        embed_corpus(tmp_path / "in.txt", tmp_path / "out.hdf5", small)
    assert {path.name for path in tmp_path.iterdir()} == {"in.txt"}
    report = embed_corpus(tmp_path / "in.txt", tmp_path / "out.hdf5", small, on_error="skip")
    assert (report.metadata.skipped_lines, report.metadata.sentences) == (1, 3)
    assert report.skipped[0].startswith("in.txt, line 2")
    with h5py.File(tmp_path / "out.hdf5") as file:
        assert [file[str(number)].shape[1] for number in range(3)] == [1, 0, 1]


@pytest.mark.parametrize("length", [4_000, pytest.param(50_000, marks=pytest.mark.slow)])
def test_a_long_line(small: ElmoConfig, tmp_path: Path, length: int) -> None:
    (tmp_path / "in.txt").write_text("short\n" + "long " * length + "\nshort\n")
    embed_corpus(tmp_path / "in.txt", tmp_path / "out.hdf5", small, layers="top")
    with h5py.File(tmp_path / "out.hdf5") as file:
        assert file["1"].shape == (length, 12)
        np.testing.assert_array_equal(file["0"][()], file["2"][()])


def test_an_empty_corpus_is_an_empty_file(small: ElmoConfig, tmp_path: Path) -> None:
    (tmp_path / "in.txt").touch()
    report = embed_corpus(tmp_path / "in.txt", tmp_path / "out.hdf5", small)
    assert report.metadata.sentences == 0
    with FeatureStore.open(tmp_path / "out.hdf5") as store:
        assert len(store) == 0


def test_lines_in_a_log(corpus: Path, small: ElmoConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.corpus.progress.SECONDS_BETWEEN_LINES", 0)
    small_windows(monkeypatch, 20)
    written = io.StringIO()
    embed_corpus(corpus, tmp_path / "out.hdf5", small, console=Console(file=written))
    lines = written.getvalue().splitlines()
    assert len(lines) > 2
    assert "tokens/s" in lines[0]
    assert "cache hits" in lines[0]
    assert "left" in lines[0]
    assert lines[-1].startswith("100%")


def test_a_bar_on_a_terminal(corpus: Path, small: ElmoConfig, tmp_path: Path) -> None:
    written = io.StringIO()
    console = Console(file=written, force_terminal=True, width=150)
    embed_corpus(corpus, tmp_path / "out.hdf5", small, console=console)
    assert "tokens/s" in written.getvalue()
    plain = io.StringIO()
    console = Console(file=plain, force_terminal=True, width=150)
    embed_corpus(corpus, tmp_path / "plain.hdf5", small, console=console, plain=True)
    assert "\x1b" not in plain.getvalue()


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ({"layers": "bottom"}, InputValueError, "`layers` must be"),
        ({"dtype": "float64"}, InputValueError, "`dtype` must be"),
        ({"format": "csv"}, InputValueError, "`format` must be"),
        ({"layout": "flat"}, InputValueError, "`layout` must be"),
        ({"compression": "rar"}, InputValueError, "`compression` must be"),
        ({"compression": "zstd"}, InputValueError, "`compression` must be"),
        ({"state": "cold"}, InputValueError, "`state` must be"),
        ({"precision": "int8"}, InputValueError, "`precision` must be"),
        ({"batch_size": 0}, InputValueError, "`batch_size` must be at least 1"),
        ({"max_tokens": 0}, InputValueError, "`max_tokens"),
        ({"max_tokens": 2.5}, InputTypeError, "`max_tokens"),
        ({"resume": "yes"}, InputTypeError, "`resume` must be"),
        ({"state": "carry", "resume": True}, InputValueError, "`resume` must be left out with `state"),
        ({"state": "carry", "use_sentence_keys": True}, InputValueError, "`use_sentence_keys` must be left out"),
        ({"layout": "packed", "use_sentence_keys": True}, InputValueError, "`use_sentence_keys` must be left out"),
        ({"inputs": "none.txt"}, ResourceNotFoundError, r"none\.txt"),
        ({"output": "no/folder/out.hdf5"}, OutputError, "must be in a folder that exists"),
        ({"output": "."}, OutputError, "must be a file"),
        ({"config": None}, ConfigError, "No ELMo weights were named"),
    ],
)
def test_wrong_arguments(
    corpus: Path,
    small: ElmoConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: dict[str, Any],
    kind: type[BridgeError],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(kind, match=message):
        embed_corpus(**{"inputs": corpus, "output": "out.hdf5", "config": small, **arguments})
    assert list(tmp_path.iterdir()) == []


def test_weights_that_overflow_are_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = random_model(tmp_path, clip=None, n_highway=0)
    with h5py.File(config.weight_file, "r+") as file:
        file["CNN_proj/b_proj"][()] = 1e6
    (tmp_path / "in.txt").write_text("fine words\n")
    embed_corpus(tmp_path / "in.txt", tmp_path / "whole.hdf5", config)
    with pytest.raises(InputValueError, match=r"float16.*65,?504"):
        embed_corpus(tmp_path / "in.txt", tmp_path / "half.hdf5", config, dtype="float16")
    with h5py.File(config.weight_file, "r+") as file:
        file["CNN_proj/b_proj"][()] = np.nan
    with pytest.raises(CheckpointError, match=r"CNN_proj/b_proj has 6 of 6 that are NaN"):
        embed_corpus(tmp_path / "in.txt", tmp_path / "nan.hdf5", config)
