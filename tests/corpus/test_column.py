"""`embed_column`: a column in, the same kind of column out."""

from typing import Any

import numpy as np
import pandas
import pyarrow
import pytest
from corpus.allennlp_oracle import allennlp_layers

from bridge import ElmoConfig, ElmoEncoder, embed_column
from bridge.errors import ConfigError, InputTypeError, InputValueError

CELLS = ["the cat sat", None, "  New\tYork ", "", "a " * 40, "the cat sat"]
SENTENCES = [(cell or "").split() for cell in CELLS]


@pytest.fixture(scope="module")
def expected(small: ElmoConfig) -> list[np.ndarray]:
    """(timesteps, num_layers, output_dim) of each sentence."""
    return [layers.transpose(1, 0, 2) for layers in allennlp_layers(small, SENTENCES)]


def assert_close(found: Any, expected: list[np.ndarray], tolerance: float = 1e-5) -> None:
    assert len(found) == len(expected)
    for values, wanted in zip(found, expected, strict=True):
        assert values.shape == wanted.shape
        np.testing.assert_allclose(values, wanted, rtol=0, atol=tolerance)


@pytest.mark.parametrize("dtype", [object, "string", "str"])
def test_pandas(small: ElmoConfig, expected: list[np.ndarray], dtype: Any) -> None:
    frame = pandas.DataFrame({"text": pandas.Series(CELLS, dtype=dtype, index=[7, 7, 1, 3, 2, 0])})
    features = embed_column(frame["text"], small)
    assert isinstance(features, pandas.Series)
    assert features.index.equals(frame.index)
    assert_close(list(features), expected)
    frame = frame.reset_index()
    frame["elmo"] = embed_column(frame["text"], small, layers="top")
    assert_close(list(frame["elmo"]), [layers[:, -1] for layers in expected])


def test_pandas_with_token_lists(small: ElmoConfig) -> None:
    column = pandas.Series([["New York", "is"], [], None, np.array(["big"], dtype=object)])
    wanted = allennlp_layers(small, [["New York", "is"], [], [], ["big"]])
    assert_close(list(embed_column(column, small, layers="average")), [layers.mean(axis=0) for layers in wanted])


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("chunked", [False, True])
def test_pyarrow(small: ElmoConfig, expected: list[np.ndarray], dtype: Any, chunked: bool) -> None:
    column: Any = pyarrow.array(CELLS)
    if chunked:
        column = pyarrow.chunked_array([CELLS[:2], [], CELLS[2:]])
    features = embed_column(column, small, dtype=dtype)
    table = pyarrow.table({"text": column, "elmo": features})
    found = [np.asarray(cell).reshape(-1, 3, 12) for cell in table["elmo"].to_numpy(zero_copy_only=False)]
    assert {values.dtype.name for values in found} == {dtype}
    assert_close(found, expected, 1e-5 if dtype == "float32" else 1e-3)


def test_numpy_and_lists(small: ElmoConfig, expected: list[np.ndarray]) -> None:
    for column in (CELLS, tuple(CELLS), np.array(CELLS, dtype=object)):
        features = embed_column(column, small)
        assert isinstance(features, np.ndarray)
        assert features.dtype == object
        assert_close(features, expected)
    assert embed_column([], small).shape == (0,)
    assert embed_column(pandas.Series([], dtype=object), small).shape == (0,)


def test_the_encoder_is_made_once(small: ElmoConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    embed_column(["a"], small)
    monkeypatch.setattr("bridge.corpus.column.ElmoEncoder.__init__", None)
    embed_column(["b"], small)


def test_an_encoder_of_ones_own(small: ElmoConfig) -> None:
    encoder = ElmoEncoder(small, state="warm")
    [features] = embed_column(["the cat"], encoder)
    np.testing.assert_allclose(features, encoder.embed([["the", "cat"]])[0], rtol=0, atol=1e-6)
    [by_name] = embed_column(["the cat"], small, state="warm")
    np.testing.assert_allclose(features, by_name, rtol=0, atol=1e-6)
    with pytest.raises(InputValueError, match="`state` must be"):
        embed_column(["the cat"], ElmoEncoder(small, state="carry"))


@pytest.mark.parametrize(
    ("column", "kind", "message"),
    [
        ("the cat", InputTypeError, "`column` must be a pandas Series"),
        (pandas.DataFrame({"text": ["a"]}), InputTypeError, r'frame\["sentence"\]'),
        (pyarrow.table({"text": ["a"]}), InputTypeError, r"`column` must be"),
        (np.array([["a"]]), InputTypeError, "`column` must be"),
        (3, InputTypeError, "`column` must be"),
        (["a", 3], InputTypeError, "`column`, row 1: a sentence must be text or a list"),
        (np.arange(3), InputTypeError, "`column`, row 0"),
        (pyarrow.array([b"a"]), InputTypeError, "`column`, row 0"),
        ([["a", ""]], InputValueError, "a token must not be empty"),
    ],
)
def test_what_is_no_column(small: ElmoConfig, column: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        embed_column(column, small)


def test_wrong_arguments(small: ElmoConfig) -> None:
    with pytest.raises(ConfigError):
        embed_column(["a"])
    with pytest.raises(InputValueError, match="`layers`"):
        embed_column(["a"], small, layers="both")  # type: ignore[arg-type]
    with pytest.raises(InputValueError, match="`dtype`"):
        embed_column(["a"], small, dtype="int8")  # type: ignore[arg-type]
